//! Checks a caller's WGSL before the driver compiles it. The WGSL compiler does not limit the size of variables. A
//! driver may allocate as much memory as a shader asks for, or crash the program.

use crate::error::GpuError;
use crate::shader::KernelSpec;
use naga::{AddressSpace, Module};

/// Largest type, and most bytes of all variables together: the workgroup memory that WebGPU guarantees.
const MOST_BYTES: u64 = 16 << 10;

/// Checks the source of a kernel with a snippet.
///
/// # Errors
/// [`GpuError::Shader`] if the source does not parse, declares an `override`, or has a type or variables of more than
/// 16 KiB.
pub(crate) fn check(spec: &KernelSpec) -> Result<(), GpuError> {
    let refused = |reason: String| GpuError::Shader { kernel: spec.name, reason };
    let source = spec.source();
    let module =
        naga::front::wgsl::parse_str(&source).map_err(|error| refused(error.emit_to_string(&source)))?;
    if !module.overrides.is_empty() {
        return Err(refused("it declares an `override`, whose value nothing sets; use a `const`".to_owned()));
    }
    if let Some((_, large)) = module.types.iter().find(|(_, ty)| bytes(&module, ty) > MOST_BYTES) {
        let name = large.name.as_deref().unwrap_or("an array");
        return Err(refused(format!("{name} is larger than {MOST_BYTES} bytes; use `row_data` or `data`")));
    }
    let taken = variable_bytes(&module);
    if taken > MOST_BYTES {
        return Err(refused(format!("its variables take {taken} bytes, {MOST_BYTES} are allowed")));
    }
    Ok(())
}

/// Bytes of a type. `u64::MAX` if the type exceeds the compiler's limit.
fn bytes(module: &Module, ty: &naga::Type) -> u64 {
    ty.inner.try_size(module.to_ctx()).map_or(u64::MAX, u64::from)
}

/// Bytes of all variables except bound buffers.
fn variable_bytes(module: &Module) -> u64 {
    let own = |space| matches!(space, AddressSpace::Private | AddressSpace::WorkGroup);
    let globals =
        module.global_variables.iter().filter(|(_, found)| own(found.space)).map(|(_, found)| found.ty);
    let entries = module.entry_points.iter().map(|entry| &entry.function);
    let functions = module.functions.iter().map(|(_, function)| function).chain(entries);
    let locals = functions.flat_map(|function| function.local_variables.iter().map(|(_, found)| found.ty));
    globals.chain(locals).map(|ty| bytes(module, &module.types[ty])).fold(0, u64::saturating_add)
}
