//! Plans the tensors of a folder's GGUF: which rows of which files make up each.

use super::HuggingFaceError;
use super::describe::Hyperparameters;
use super::families::Family;
use super::names::{NamedTensor, gguf_names, is_idle, is_other_part};
use super::rows::{RowOrder, Rows, Values};
use crate::architecture::Architecture;
use crate::safetensors::{Dtype, SafetensorsHeader, SafetensorsTensor};
use std::collections::BTreeMap;
use std::ops::Range;
use weft_components::formats::{F16, F32};
use weft_components::{BlockFormat, RopeStyle, TensorFormat, TensorRole};

/// A tensor of the GGUF.
#[derive(Debug)]
pub(super) struct PlannedRows {
    pub(super) name: String,
    pub(super) format: TensorFormat,
    /// Innermost first.
    pub(super) shape: Vec<u64>,
    pub(super) rows: Rows,
    /// The tensors of the folder that it is made of: file indices and names.
    pub(super) origins: Vec<(usize, String)>,
}

/// Matrices that are collected into one tensor.
struct Stack {
    format: TensorFormat,
    /// Rows and columns of one matrix; `rows` is 0 for a vector.
    rows: u64,
    cols: u64,
    /// The matrices by expert; the key is 0 if there are no experts.
    pieces: BTreeMap<usize, Piece>,
    /// True if the tensor is a stack of experts, even if there is only one.
    stacked: bool,
}

struct Piece {
    file: usize,
    range: Range<u64>,
    origin: String,
}

/// The part of a file's tensor that is added to a stack.
struct Matrix {
    expert: usize,
    range: Range<u64>,
}

/// The model whose tensors are planned.
pub(super) struct Plan<'a> {
    pub(super) folder: &'a str,
    pub(super) family: &'a Family,
    pub(super) arch: &'a Architecture,
    pub(super) hyperparameters: Hyperparameters,
    /// True if the model has parts besides the text model.
    pub(super) other_parts: bool,
}

impl Plan<'_> {
    /// Returns the tensors of these files in the order in which a forward pass needs them.
    ///
    /// # Errors
    /// A tensor that is unknown, missing, present twice, or of an unsupported dtype or shape.
    pub(super) fn tensors(
        &self,
        headers: &[SafetensorsHeader],
    ) -> Result<Vec<PlannedRows>, HuggingFaceError> {
        let mut stacks: BTreeMap<(Place, String), Stack> = BTreeMap::new();
        for (file, header) in headers.iter().enumerate() {
            for tensor in &header.tensors {
                if let Some(named) = self.name(header, tensor)? {
                    self.collect(&mut stacks, headers, file, tensor, &named)?;
                }
            }
        }
        stacks.into_iter().map(|((_, name), stack)| self.whole(name, stack)).collect()
    }

    /// Returns the names of a tensor in the GGUF; `None` if the GGUF does not contain it.
    fn name(
        &self,
        header: &SafetensorsHeader,
        tensor: &SafetensorsTensor,
    ) -> Result<Option<NamedTensor>, HuggingFaceError> {
        let name = tensor.name.as_str();
        if is_idle(name, self.arch.causal) || (self.other_parts && is_other_part(name)) {
            return Ok(None);
        }
        let named = gguf_names(self.arch.name, name).ok_or_else(|| HuggingFaceError::UnknownTensor {
            file: header.file.clone(),
            tensor: tensor.name.clone(),
            architecture: self.arch.name.to_owned(),
        })?;
        // Some files contain a head that repeats the embedding.
        let unread = self.hyperparameters.tied == Some(true) || !self.arch.may_have(TensorRole::Output);
        Ok(Some(named).filter(|named| !(unread && named.names.iter().any(|name| name == HEAD))))
    }

    /// Adds a tensor to the stacks that it is part of.
    fn collect(
        &self,
        stacks: &mut BTreeMap<(Place, String), Stack>,
        headers: &[SafetensorsHeader],
        file: usize,
        tensor: &SafetensorsTensor,
        named: &NamedTensor,
    ) -> Result<(), HuggingFaceError> {
        let in_file = || headers.get(file).map_or_else(String::new, |header| header.file.clone());
        let format = tensor.dtype.format().ok_or_else(|| HuggingFaceError::Dtype {
            file: in_file(),
            tensor: tensor.name.clone(),
            dtype: tensor.dtype.name(),
            known: Dtype::readable(),
        })?;
        let bad = |wanted: &str| HuggingFaceError::Shape {
            file: in_file(),
            tensor: tensor.name.clone(),
            shape: tensor.shape.clone(),
            wanted: wanted.to_owned(),
        };
        if tensor.shape.contains(&0) {
            return Err(bad("at least one element"));
        }
        let (experts, rows, cols) = match (tensor.shape.as_slice(), named.expert) {
            ([cols], None) => (None, 0, *cols),
            ([rows, cols], _) => (None, *rows, *cols),
            ([experts, rows, cols], None) => (Some(*experts), *rows, *cols),
            _ => return Err(bad("one or two dimensions, or three of stacked experts")),
        };
        if experts.is_some_and(|experts| experts != self.hyperparameters.experts) {
            return Err(bad(&format!("{} experts", self.hyperparameters.experts)));
        }
        if named.expert.is_some_and(|expert| expert as u64 >= self.hyperparameters.experts) {
            return Err(bad(&format!("of one of {} experts", self.hyperparameters.experts)));
        }
        let parts = named.names.len() as u64;
        if !rows.is_multiple_of(parts) || (rows == 0 && parts > 1) {
            return Err(bad("an even number of rows"));
        }
        let stacked = experts.is_some() || named.expert.is_some();
        for (part, name) in (0..parts).zip(&named.names) {
            let stack = stacks.entry((Place::of(name), name.clone())).or_insert_with(|| Stack {
                format,
                rows: rows / parts,
                cols,
                pieces: BTreeMap::new(),
                stacked,
            });
            if (stack.format, stack.rows, stack.cols) != (format, rows / parts, cols) {
                return Err(bad(&format!(
                    "{} rows of {} in {}",
                    stack.rows * parts,
                    stack.cols,
                    stack.format
                )));
            }
            for Matrix { expert, range } in matrices(tensor, experts, named.expert, part, parts) {
                let origin = tensor.name.clone();
                if let Some(first) = stack.pieces.insert(expert, Piece { file, range, origin }) {
                    let first =
                        headers.get(first.file).map_or_else(String::new, |header| header.file.clone());
                    return Err(HuggingFaceError::DuplicateTensor {
                        file: in_file(),
                        tensor: tensor.name.clone(),
                        first,
                    });
                }
            }
        }
        Ok(())
    }

    /// Turns a stack into the tensor of the GGUF.
    fn whole(&self, name: String, stack: Stack) -> Result<PlannedRows, HuggingFaceError> {
        let Stack { format, rows, cols, pieces, stacked } = stack;
        if stacked && pieces.len() as u64 != self.hyperparameters.experts {
            let lacks = (0..).find(|expert| !pieces.contains_key(expert)).unwrap_or_default();
            let like = pieces.values().next().map_or("", |piece| &piece.origin);
            return Err(self.missing(format!("of expert {lacks}, beside {like}")));
        }
        let vector = rows == 0;
        let first = if name == POSITIONS { self.hyperparameters.first_position } else { 0 };
        if first > 0 && first >= rows {
            return Err(HuggingFaceError::Shape {
                file: self.folder.to_owned(),
                tensor: pieces.values().next().map(|piece| piece.origin.clone()).unwrap_or_default(),
                shape: vec![rows, cols],
                wanted: format!("more than {first} rows: the first token's position is {first}"),
            });
        }
        let rows = rows - first;
        let order = self.order(&name, rows.max(1), cols, &pieces)?;
        let values = self.values(&name, vector);
        let id = match values {
            Values::Ternary => F16::GGML_TYPE,
            _ if vector || name.contains(ROUTER) => F32::GGML_TYPE,
            _ => format.ggml_type(),
        };
        let mut shape = vec![cols];
        shape.extend((!vector).then_some(rows));
        shape.extend(stacked.then_some(pieces.len() as u64));
        // A vector whose elements are reordered is treated as rows of one element.
        let single = vector && order != RowOrder::Same;
        let (rows, cols) = if single { (cols, 1) } else { (rows.max(1), cols) };
        let origins = pieces.values().map(|piece| (piece.file, piece.origin.clone())).collect();
        let skipped = first * cols * format.block_bytes() as u64;
        let pieces = pieces.into_values().map(|piece| (piece.file, piece.range.start + skipped)).collect();
        let to = TensorFormat::from_ggml(id).unwrap_or(format);
        let rows = Rows::new(pieces, (rows, cols), (format, to), order, values);
        Ok(PlannedRows { name, format: to, shape, rows, origins })
    }

    /// Returns the row order of a tensor. Queries and keys that rotary embedding turns in adjacent pairs are stored by
    /// halves in the folder.
    fn order(
        &self,
        name: &str,
        rows: u64,
        cols: u64,
        pieces: &BTreeMap<usize, Piece>,
    ) -> Result<RowOrder, HuggingFaceError> {
        let (vector, heads) = match part_of_layer(name) {
            Some("attn_q") => (name.ends_with("bias"), self.hyperparameters.heads),
            Some("attn_k") => (name.ends_with("bias"), self.hyperparameters.kv_heads),
            _ => return Ok(RowOrder::Same),
        };
        let rows = if vector { cols } else { rows };
        row_order(self.arch, name, heads, rows).ok_or_else(|| HuggingFaceError::Shape {
            file: self.folder.to_owned(),
            tensor: pieces.values().next().map(|piece| piece.origin.clone()).unwrap_or_default(),
            shape: vec![rows, cols],
            wanted: format!("an even number of rows for each of {heads} heads"),
        })
    }

    fn values(&self, name: &str, vector: bool) -> Values {
        if self.family.norms_add_one && name.ends_with("norm.weight") {
            Values::AddOne
        } else if self.family.ternary && !vector && part_of_layer(name).is_some() {
            Values::Ternary
        } else {
            Values::Same
        }
    }

    fn missing(&self, tensor: String) -> HuggingFaceError {
        HuggingFaceError::MissingTensor { folder: self.folder.to_owned(), tensor }
    }
}

/// Contained in the names of routers. They select experts by small differences, so they are stored as F32, like
/// vectors.
const ROUTER: &str = ".ffn_gate_inp";

/// The head.
pub(super) const HEAD: &str = "output.weight";

/// The position embedding.
const POSITIONS: &str = "position_embd.weight";

/// Returns the order in which the rows of a folder's tensor become the rows of the GGUF tensor `name`, which has `rows`
/// rows in `heads` heads. Queries and keys are reordered if the architecture turns adjacent pairs; all other tensors
/// keep their order. `None` if a head would not have an even number of rows.
pub fn row_order(arch: &Architecture, name: &str, heads: u64, rows: u64) -> Option<RowOrder> {
    let turned = matches!(part_of_layer(name), Some("attn_q" | "attn_k"));
    if !turned || arch.rope != RopeStyle::Adjacent {
        return Some(RowOrder::Same);
    }
    let head = rows.checked_div(heads).filter(|_| rows.is_multiple_of(heads))?;
    (head > 0 && head.is_multiple_of(2)).then_some(RowOrder::Paired { head })
}

/// Returns the third component of a layer tensor's name, such as `attn_q`; `None` for tensors outside layers.
fn part_of_layer(name: &str) -> Option<&str> {
    let mut parts = name.split('.');
    (parts.next() == Some("blk")).then(|| parts.nth(1)).flatten()
}

/// The position of a tensor in the file: before the layers, in a layer, or after them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Before,
    Layer(u32),
    After,
}

impl Place {
    fn of(name: &str) -> Self {
        let mut parts = name.split('.');
        match (parts.next(), parts.next().and_then(|layer| layer.parse().ok())) {
            (Some("blk"), Some(layer)) => Self::Layer(layer),
            (Some("output" | "output_norm"), _) => Self::After,
            _ => Self::Before,
        }
    }
}

/// Returns the matrices of a tensor. Of each matrix it takes slice `part` of `parts` equal slices of rows.
fn matrices(
    tensor: &SafetensorsTensor,
    experts: Option<u64>,
    expert: Option<usize>,
    part: u64,
    parts: u64,
) -> impl Iterator<Item = Matrix> + use<> {
    let count = experts.unwrap_or(1);
    // Dimensions are not 0 and their product is the size of the range, so the divisions are exact.
    let matrix = (tensor.range.end - tensor.range.start) / count;
    let (start, bytes) = (tensor.range.start, matrix / parts);
    (0..count).zip(expert.unwrap_or(0)..).map(move |(index, expert)| {
        let start = start + index * matrix + part * bytes;
        Matrix { expert, range: start..start + bytes }
    })
}
