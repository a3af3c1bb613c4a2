//! Writes the JavaScript bindings of a compiled module: `weft-bindgen MODULE.wasm OUT_DIR (nodejs|web)`.

use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(module), Some(out), Some(target)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: weft-bindgen MODULE.wasm OUT_DIR (nodejs|web)".into());
    };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module);
    match target.as_str() {
        "nodejs" => bindgen.nodejs(true)?,
        // Makes `init()` find the module in the folder of its JavaScript.
        "web" => bindgen.web(true)?.omit_default_module_path(false),
        other => return Err(format!("unknown target `{other}`: nodejs or web").into()),
    };
    Ok(bindgen.generate(out)?)
}
