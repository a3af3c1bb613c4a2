// The gate of GEGLU, with the tanh approximation (arXiv 1606.08415): x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715
// x^3))). (1 + tanh(u)) / 2 is sigmoid(2u).
const GELU_LINEAR: f32 = 1.5957691216057308;
const GELU_CUBIC: f32 = 0.07135481282637316;
fn gate_of(x: vec4<f32>) -> vec4<f32> { return x / (1.0 + exp(-x * (GELU_LINEAR + GELU_CUBIC * x * x))); }
