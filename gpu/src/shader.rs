//! Kernels are lists of shared parts: the decode functions of a format, a way to reduce, a way to load and store
//! activations, and the kernel itself. A kind of codes and a kind of scales (`planes.rs`) decode a layout, so that no
//! kernel is copied for one.
//!
//! The shapes that a kernel is compiled for become constants at the top of its source, so that the driver's compiler
//! can use them. Bindings are parsed from the parts' text, where alone they are declared.

use core::fmt::Write;
use std::sync::Arc;

/// One file of `shaders/`.
pub type Part = &'static str;

/// The parts, by file name.
pub mod parts {
    use super::Part;
    macro_rules! parts {
        ($($name:ident $file:literal),* $(,)?) => {
            $(#[doc = concat!("`shaders/", $file, ".wgsl`.")] pub const $name: Part = include_str!(concat!("shaders/", $file, ".wgsl"));)*
            /// All parts, with the names of their files.
            pub(super) const NAMED: &[(&str, Part)] = &[$(($file, $name)),*];
        };
    }
    parts! {
        WAVE "wave", REDUCE_PLAIN "reduce_plain", REDUCE_SUBGROUP "reduce_subgroup",
        DECODE_F32 "decode_f32", DECODE_F16 "decode_f16", DECODE_BF16 "decode_bf16",
        DECODE_U2 "decode_u2", DECODE_U3 "decode_u3", DECODE_U4 "decode_u4", DECODE_U5 "decode_u5", DECODE_U6 "decode_u6",
        DECODE_U8 "decode_u8", DECODE_T3 "decode_t3", DECODE_T4 "decode_t4",
        ONE_SCALE "one_scale", TWO_SCALES "two_scales", SCALES_NONE "scales_none", SCALES_HALF "scales_half",
        SCALES_HALF_MIN "scales_half_min", SCALES_FLOAT "scales_float", SCALES_SUPER "scales_super",
        SCALES_SUPER_MIN "scales_super_min", SCALES_HALVES "scales_halves", SCALES_HALVES_MIN "scales_halves_min",
        ACT_F32 "act_f32", ACT_F16 "act_f16", ACT_Q8 "act_q8",
        EMBED "embed", EMBED_ADD "embed_add", RMS_NORM "rms_norm", LAYER_NORM "layer_norm", ACTIVATE "activate", DOT_F32 "dot_f32", DOT_Q8 "dot_q8", MATVEC "matvec",
        OUT_STORE "out_store", OUT_ADD "out_add", OUT_GATE "out_gate", ROPE "rope", ROPE_KV "rope_kv", OUT_ROPE "out_rope",
        GATE_SILU "gate_silu", GATE_GELU "gate_gelu", GATE_GELU_ERF "gate_gelu_erf", GATE_RELU2 "gate_relu2", GATE_MUL "gate_mul", GATE_NORM "gate_norm",
        ROPE_HEADS "rope_heads", ROPE_PAIRS "rope_pairs", HEADS_PAIRS "heads_pairs", HEADS_BLOCKS "heads_blocks", HADAMARD "hadamard",
        KV_HALVES "kv_halves", KV_BLOCKS "kv_blocks", KV_F32 "kv_f32", KV_F16 "kv_f16", KV_BF16 "kv_bf16", KV_Q8_0 "kv_q8_0", KV_Q4_0 "kv_q4_0",
        KV_F32_STORE "kv_f32_store", KV_F16_STORE "kv_f16_store", KV_BF16_STORE "kv_bf16_store",
        KV_Q8_0_STORE "kv_q8_0_store", KV_Q4_0_STORE "kv_q4_0_store",
        KV_KIVI2 "kv_kivi2", KV_KIVI2_PAGE "kv_kivi2_page", KV_KIVI2_STORE "kv_kivi2_store", KV_KIVI2_SEAL "kv_kivi2_seal",
        LOAD_ACT "load_act", RESIDUAL "residual", DELTA_ROWS "delta_rows", DELTA_EXPERTS "delta_experts",
        CAP_LOGITS "cap_logits", ROWS_WAVE "rows_wave", ROWS_PAIRS "rows_pairs", ROWS_GROUPS "rows_groups", ROUTE "route",
        GROUP_PAIRS "group_pairs", ADAPTER "adapter", ADAPTER_DOWN "adapter_down", ADAPTER_UP "adapter_up",
        DOT_NORM_F32 "dot_norm_f32", DOT_NORM_Q8 "dot_norm_q8", ADD_F32 "add_f32", ADD_Q8 "add_q8",
        MATMUL "matmul", MATMUL_COOPERATIVE "matmul_cooperative", MATMUL_SKINNY "matmul_skinny", TEAM_PLAIN "team_plain", TEAM_SUBGROUP "team_subgroup", ATTENTION "attention", ATTEND "attend",
        ATTEND_DIRECT "attend_direct", ATTEND_SPLIT "attend_split", ATTEND_COMBINE "attend_combine",
        ATTEND_TILED "attend_tiled", ATTEND_ROTATE "attend_rotate", SCAN_PLAIN "scan_plain", SCAN_SUBGROUP "scan_subgroup",
        SAMPLE_ROWS "sample_rows", SAMPLE_LOGITS "sample_logits", SAMPLE_WEIGHTS "sample_weights", SAMPLE_OUT "sample_out",
        SAMPLE_ADJUST "sample_adjust", SAMPLE_CHUNK_MAXIMA "sample_chunk_maxima", SAMPLE_ARGMAX "sample_argmax",
        SAMPLE_BLOCK_MAXIMA "sample_block_maxima", SAMPLE_TOP_K "sample_top_k",
        SAMPLE_CHUNK_SUMS "sample_chunk_sums", SAMPLE_FULL "sample_full",
        READ_BANDWIDTH "read_bandwidth", DISPATCH_CHAIN "dispatch_chain",
    }
}

/// Value of a constant that a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Constant {
    /// A count.
    U32(u32),
    /// The bits of a float.
    F32(u32),
}

impl From<u32> for Constant {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<f32> for Constant {
    fn from(value: f32) -> Self {
        Self::F32(value.to_bits())
    }
}

/// Names of all parts.
pub fn part_names() -> impl Iterator<Item = &'static str> {
    parts::NAMED.iter().map(|(name, _)| *name)
}

/// A kernel and the shapes that it is compiled for. It is the source of a pipeline, and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelSpec {
    /// Name in profiles and errors.
    pub name: &'static str,
    parts: Vec<Part>,
    constants: Vec<(&'static str, Constant)>,
    /// WGSL of the caller.
    snippet: Option<Arc<str>>,
}

/// A binding of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Binding number in group 0.
    pub index: u32,
    /// True if the kernel writes to the buffer.
    pub writes: bool,
}

impl KernelSpec {
    /// A kernel that consists of these parts, in this order.
    pub fn new(name: &'static str, parts: impl IntoIterator<Item = Part>) -> Self {
        Self { name, parts: parts.into_iter().collect(), constants: Vec::new(), snippet: None }
    }

    /// Adds a constant.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Constant>) -> Self {
        self.constants.push((name, value.into()));
        self
    }

    /// Adds WGSL of the caller, which the parts call. It comes first in the source, so that the compiler's line numbers
    /// are those of the snippet. It may begin with directives, which the parts must then not have. A kernel with a
    /// snippet is compiled with run-time checks. It has no bindings besides those of its parts.
    #[must_use]
    pub(crate) fn with_snippet(self, wgsl: &str) -> Self {
        Self { snippet: Some(wgsl.into()), ..self }
    }

    /// Returns true if the whole source is this crate's own.
    pub(crate) fn is_own(&self) -> bool {
        self.snippet.is_none()
    }

    /// Names of the parts, which show the path that the kernel takes on a device.
    pub fn part_names(&self) -> impl Iterator<Item = &'static str> {
        let name = |part: &Part| parts::NAMED.iter().find(|(_, found)| found == part).map(|(name, _)| *name);
        self.parts.iter().filter_map(name)
    }

    /// Value of a constant that is a count.
    pub fn constant(&self, name: &str) -> Option<u32> {
        self.constants.iter().find(|(found, _)| *found == name).and_then(|(_, value)| match value {
            Constant::U32(value) => Some(*value),
            Constant::F32(_) => None,
        })
    }

    /// Returns true if the kernel uses subgroup operations, which only some devices have.
    pub fn uses_subgroups(&self) -> bool {
        self.parts.iter().any(|part| has_subgroup_operation(part))
    }

    /// The WGSL of the whole kernel.
    pub fn source(&self) -> String {
        let mut source = String::new();
        if let Some(snippet) = &self.snippet {
            source += snippet;
            source.push('\n');
        }
        let directives =
            self.parts.iter().flat_map(|part| part.lines()).filter(|line| line.starts_with("enable "));
        let mut seen: Vec<&str> = Vec::new();
        for directive in directives {
            if !seen.contains(&directive) {
                seen.push(directive);
                source += directive;
                source.push('\n');
            }
        }
        // Browsers require the directive, naga rejects it.
        if cfg!(target_family = "wasm") && self.uses_subgroups() {
            source += "enable subgroups;\n";
        }
        for (name, value) in &self.constants {
            // Writing to a string cannot fail.
            let _ = match value {
                Constant::U32(value) => writeln!(source, "const {name}: u32 = {value}u;"),
                Constant::F32(bits) => writeln!(source, "const {name}: f32 = {:?}f;", f32::from_bits(*bits)),
            };
        }
        for part in &self.parts {
            for line in part.lines().filter(|line| !line.starts_with("enable ")) {
                source += line;
                source.push('\n');
            }
        }
        source
    }

    /// Bindings that the parts declare, in ascending order. A declaration must be on a line of its own.
    pub fn bindings(&self) -> Vec<Binding> {
        let mut bindings: Vec<Binding> =
            self.parts.iter().flat_map(|part| part.lines()).filter_map(binding).collect();
        bindings.sort_by_key(|binding| binding.index);
        bindings
    }
}

/// Returns true if a part calls a subgroup operation. Their names are like `subgroupAdd`.
fn has_subgroup_operation(part: &str) -> bool {
    let named = |rest: &str| rest.starts_with(|c: char| c.is_ascii_uppercase());
    part.split("subgroup").skip(1).any(named)
}

/// The binding that a line of WGSL declares.
fn binding(line: &str) -> Option<Binding> {
    let rest = line.strip_prefix("@group(0) @binding(")?;
    let (index, rest) = rest.split_once(')')?;
    let writes = rest.trim_start().starts_with("var<storage, read_write>");
    Some(Binding { index: index.parse().ok()?, writes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_come_before_parts_and_directives_before_both() {
        let spec = KernelSpec::new("k", ["fn a() {}\n", "enable f16;\nfn b() {}\n"])
            .with("N", 3u32)
            .with("E", 1e-5f32);
        assert_eq!(
            spec.source(),
            "enable f16;\nconst N: u32 = 3u;\nconst E: f32 = 1e-5f;\nfn a() {}\nfn b() {}\n"
        );
    }

    /// WGSL initializes a variable with zero each time its declaration is executed. Chromium 156 does it only once, so
    /// that in a loop a sum continued from the previous iteration.
    #[test]
    fn variables_in_loops_say_what_they_start_with() {
        // These are written completely before they are read.
        const WRITTEN: [(&str, &str); 5] = [
            ("add_q8", "v"),
            ("dot_norm_q8", "v"),
            ("dot_norm_q8", "weight"),
            ("dot_norm_f32", "v"),
            ("dot_norm_f32", "weight"),
        ];
        for (name, part) in parts::NAMED {
            // By indentation, declarations deeper than the body of a function.
            let declared = part
                .lines()
                .filter_map(|line| line.strip_prefix("        ")?.trim_start().strip_prefix("var "));
            for (variable, rest) in declared.filter_map(|line| line.split_once(':')) {
                let known = rest.contains('=') || WRITTEN.contains(&(*name, variable));
                assert!(known, "{name}.wgsl: {variable} is in a block and has no initial value");
            }
        }
    }

    #[test]
    fn subgroup_operations_are_in_their_parts_only() {
        let found: Vec<_> = parts::NAMED.iter().filter(|(_, part)| has_subgroup_operation(part)).collect();
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["reduce_subgroup", "team_subgroup", "scan_subgroup"]);
    }

    #[test]
    fn bindings_are_read_off_the_text() {
        let spec = KernelSpec::new("k", [parts::OUT_ADD, parts::WAVE]);
        let found: Vec<_> = spec.bindings().iter().map(|binding| (binding.index, binding.writes)).collect();
        assert_eq!(found, [(0, false), (30, true)]);
    }
}
