// GELU with the error function, x/2 (1 + erf(x/sqrt(2))), computed as max(x, 0) - |x|/2 erfc(|x|/sqrt(2)), which avoids
// cancellation for negative x. The relative error of erfc is at most 1.2e-7 (Numerical Recipes, section 6.2). Beyond 30
// it is 0.
fn gate_of(x: vec4<f32>) -> vec4<f32> {
    let size = min(abs(x), vec4<f32>(30.0));
    let z = size * 0.7071067811865476;
    let t = 1.0 / (1.0 + 0.5 * z);
    var p = vec4<f32>(0.17087277);
    p = p * t - 0.82215223;
    p = p * t + 1.48851587;
    p = p * t - 1.13520398;
    p = p * t + 0.27886807;
    p = p * t - 0.18628806;
    p = p * t + 0.09678418;
    p = p * t + 0.37409196;
    p = p * t + 1.00002368;
    p = p * t - 1.26551223;
    return max(x, vec4<f32>(0.0)) - 0.5 * size * t * exp(p - z * z);
}
