// Checks that the wasm build gives the reference's tokens in a browser on WebGPU: with all features that the browser
// offers, without them, with a device that is destroyed in the middle of an answer, and in every weight format. Any
// error or warning of the browser fails the check.
// usage: node browser.mjs BINDINGS_DIR TINY_MODELS_DIR
// Playwright is found through NODE_PATH, Chromium at $CHROMIUM or /usr/bin/chromium.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { basename, extname, join } from 'node:path';
import { watch } from './watch.mjs';

const { chromium } = createRequire(import.meta.url)('playwright-core');
const [bindings, models] = process.argv.slice(2);
const reference = (model) => JSON.parse(readFileSync(join(models, `${model}.json`), 'utf8'));

// Longer than any answer takes, even with two busy cores and a software GPU, for which kernels have to be compiled.
const LONG = 300_000;
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost');
  const folder = { '/bindings/': bindings, '/models/': models }[pathname.slice(0, pathname.lastIndexOf('/') + 1)];
  const file = pathname === '/' ? new URL('page.html', import.meta.url) : folder && join(folder, basename(pathname));
  if (pathname === '/favicon.ico') return response.writeHead(204).end();
  try {
    const body = readFileSync(file);
    response.writeHead(200, { 'content-type': TYPES[extname(String(file))] ?? 'application/octet-stream' }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader',
  ],
});

// Opens the page, waits for its answer, and asks the further questions. Returns the answers, each with what `watch`
// recorded and the browser's complaints up to then.
async function open(query, watched, questions = []) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(LONG);
  const complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(`console ${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`page: ${error.message}`));
  page.on('crash', () => complaints.push('the page crashed'));
  await page.addInitScript(watch, watched);
  await page.goto(`http://127.0.0.1:${server.address().port}/${query}`);
  await page.waitForFunction(() => globalThis.answer !== undefined);
  const answers = [];
  for (const question of [null, ...questions]) {
    const answer = await page.evaluate(([question, long]) => {
      const answer = question ? globalThis.ask(...question) : globalThis.answer;
      const late = new Promise((_, fail) => setTimeout(() => fail('no answer in time'), long));
      return Promise.race([answer, late]).catch((error) => ({ failed: String(error?.stack ?? error) }));
    }, [question, LONG]);
    const seen = await page.evaluate(() => globalThis.seen);
    answers.push({ ...answer, seen, complaints: [...complaints.splice(0), ...seen.errors] });
  }
  await context.close();
  return answers;
}

const { greedy: wanted } = reference('tiny-llama');
let failures = 0;

// Prints whether a check passed, with the answer if it did not.
function report(what, holds, answer) {
  if (!holds) failures += 1;
  (holds ? console.log : console.error)(`browser, ${what}${holds ? '' : `: failed\n${JSON.stringify(answer, null, 1)}`}`);
}

// Checks an answer and prints what is wrong with it. `wanted` are the tokens that it has to begin with.
function check(name, answer, wanted, more = {}) {
  const wrong = Object.entries({
    'it fails': !answer.failed,
    'tokens are not the reference\'s': answer.tokens?.slice(0, wanted.length).join() === wanted.join(),
    'not on WebGPU': answer.backend === 'webgpu',
    'layers are not on the GPU': answer.layers > 0 && answer.layersOnGpu === answer.layers,
    'no dispatch': answer.dispatches > 0,
    'the browser complains': answer.complaints.length === 0,
    'subgroup operations on a device without them': answer.subgroup !== undefined || !usesSubgroups(answer),
    ...more,
  }).filter(([, holds]) => !holds).map(([what]) => what);
  const { vendor, architecture } = answer.seen.devices[0] ?? {};
  report(wrong.length > 0
    ? `${name}: ${wrong.join('; ')}; wanted ${wanted}`
    : `${name}: ${wanted.length} equal the reference's, ${answer.layersOnGpu} of ${answer.layers} layers through ` +
      `${answer.backend} on ${vendor} ${architecture}, ${answer.dispatches} dispatches`, wrong.length === 0, answer);
}

const usesSubgroups = (answer) => answer.kernels?.some((kernel) => kernel.includes('_subgroup')) ?? false;

// Prompts from a reference with logits at each position, each with its most likely next token. There is one prompt for
// each class of kernels, by number of rows; it is the one whose best logit is furthest from the second.
function clearest({ tokens, logits }) {
  return [[1, 1], [2, 4], [5, 8], [9, tokens.length]].map(([least, most]) => {
    const candidates = logits.slice(least - 1, most).map((row, at) => {
      const best = row.indexOf(Math.max(...row));
      return { prompt: tokens.slice(0, least + at), best, gap: row[best] - Math.max(...row.toSpliced(best, 1)) };
    });
    return candidates.reduce((a, b) => (b.gap > a.gap ? b : a));
  });
}

// Questions for the models in these formats; each is a prompt with one expected next token.
const questions = (formats) => formats.flatMap((format) => {
  const model = `tiny-llama-${format}`;
  return clearest(reference(model)).map(({ prompt, best }) => ({ model: `${model}.gguf`, prompt, wanted: [best] }));
});

// Checks tiny-llama and the questions of these formats.
async function checkAll(name, query, formats, more = {}) {
  const asked = questions(formats);
  const [first, ...answers] = await open(query, {}, asked.map(({ model, prompt }) => [model, prompt, 1]));
  check(`tiny-llama.gguf${name}`, first, wanted, more);
  asked.forEach(({ model, prompt, wanted }, at) => check(`${model}, a prompt of ${prompt.length}${name}`, answers[at], wanted, more));
  return first;
}

try {
  const whole = await checkAll('', '', ['f32', 'bf16', 'q8_0', 'q4_0', 'q4_1']);
  await checkAll(', plain', '?plain', ['q8_0']);

  // In the middle of the answer: after half of the submits that it took without a loss.
  const destroyAfter = Math.ceil((whole.seen.devices[0]?.submits ?? 2) / 2);
  const [lost, damaged] = await open('', { destroyAfter }, [['tiny-llama.json', [1], 1]]);
  check('tiny-llama.gguf, its device destroyed in the middle of the answer', lost, wanted, {
    'no device was destroyed': lost.seen.destroyed === 1,
    'no second device': lost.seen.devices.length === 2,
    'nothing computed on the second device': lost.seen.devices[1]?.submits > 0,
  });
  report('a file that is not a model is refused', /GGUF/.test(damaged.failed), damaged);

  // The adapter's subgroups are smaller than any that kernels are made for. A device that claims a larger size computes
  // wrong numbers, but it shows that the browser accepts the kernels.
  const [claimed] = await open('', { subgroup: 32 });
  const accepted = claimed.subgroup === 32 && usesSubgroups(claimed) && claimed.complaints.length === 0;
  report(`${claimed.kernels?.length} kernels on subgroups of ${claimed.subgroup} are accepted`, accepted, claimed);
} finally {
  await browser.close();
  server.close();
}
process.exit(failures > 0 ? 1 : 0);
