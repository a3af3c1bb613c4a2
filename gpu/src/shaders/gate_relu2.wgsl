// The gate of squared ReLU (arXiv 2109.08668): max(x, 0)^2.
fn gate_of(x: vec4<f32>) -> vec4<f32> {
    let positive = max(x, vec4<f32>(0.0));
    return positive * positive;
}
