// Checks that the wasm build gives the reference's greedy tokens on a tiny model.
// usage: node greedy.mjs BINDINGS_DIR MODEL.gguf REFERENCE.json
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const [bindings, model, reference] = process.argv.slice(2);
const { greedy } = createRequire(import.meta.url)(resolve(bindings, 'weft_web.js'));
const { tokens, greedy: wanted } = JSON.parse(readFileSync(reference, 'utf8'));
const found = [...greedy(new Uint8Array(readFileSync(model)), new Uint32Array(tokens), wanted.length)];
if (found.join() !== wanted.join()) {
  console.error(`wasm: ${model}\n  found  ${found}\n  wanted ${wanted}`);
  process.exit(1);
}
try {
  greedy(new Uint8Array([71, 71, 85, 70, 3]), new Uint32Array([1]), 1);
  console.error('wasm: a damaged file was accepted');
  process.exit(1);
} catch (error) {
  if (!/GGUF|gguf|model/.test(String(error.message))) throw error;
}
console.log(`wasm: ${found.length} tokens of ${model} equal the reference's`);
