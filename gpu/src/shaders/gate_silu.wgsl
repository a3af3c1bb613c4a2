// The gate of SwiGLU (arXiv 2002.05202): x * sigmoid(x).
fn gate_of(x: vec4<f32>) -> vec4<f32> { return x / (1.0 + exp(-x)); }
