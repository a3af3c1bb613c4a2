//! `weft tensor`: writes a tensor's values to stdout.

use crate::args::TensorArgs;
use crate::error::CliError;
use crate::{host, output};
use weft::ModelSource;
use weft::components::formats::FORMATS;
use weft::gguf::Gguf;

/// Bytes of the file that are decoded at once.
const CHUNK: usize = 1 << 20;
/// Maximum number of similar names to suggest.
const OFFERED: usize = 3;

/// Runs the command. Writes the rows in order as little-endian 32-bit floats, and nothing else.
pub(super) fn run(args: &TensorArgs) -> Result<(), CliError> {
    let path = host::model_file(Some(&args.file))?;
    let file = path.display().to_string();
    let sources = ModelSource::Path(path).open()?.sources;
    let gguf = Gguf::read(&sources)?;
    let Some(tensor) = gguf.tensor(&args.name) else {
        let similar = similar(gguf.tensors.iter().map(|tensor| tensor.name.as_str()), &args.name);
        return Err(CliError::NoSuchTensor { file, tensor: args.name.clone(), similar });
    };
    let format = tensor.format;
    let readable = || FORMATS.iter().filter(|format| format.codec.is_some()).map(|format| format.name);
    let unreadable = || CliError::UnreadableTensor {
        file: file.clone(),
        tensor: tensor.name.clone(),
        format: format.to_string(),
        readable: readable().collect::<Vec<_>>().join(", "),
    };
    let source = sources.get(tensor.source).ok_or_else(unreadable)?;
    let bytes = source.read(tensor.range.clone())?;
    let blocks = (CHUNK / format.block_bytes().max(1)).max(1);
    let mut values = Vec::new();
    let mut out = Vec::new();
    for chunk in bytes.chunks(blocks * format.block_bytes().max(1)) {
        values.clear();
        values.resize(chunk.len() / format.block_bytes().max(1) * format.block(), 0.0);
        if !format.dequantize(chunk, &mut values) {
            return Err(unreadable());
        }
        out.clear();
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        output::bytes(&out)?;
    }
    Ok(())
}

/// Returns names that contain the last component of the requested one.
fn similar<'a>(names: impl Iterator<Item = &'a str>, asked: &str) -> Vec<String> {
    let stem = asked.strip_suffix(".weight").unwrap_or(asked).to_lowercase();
    let last = stem.rsplit('.').next().unwrap_or_default().to_owned();
    let close = names.filter(|name| !last.is_empty() && name.to_lowercase().contains(&last));
    close.take(OFFERED).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn names_that_hold_the_last_part_are_offered() {
        let names = ["blk.0.attn_q.weight", "blk.1.attn_q.weight", "output.weight"];
        assert_eq!(similar(names.into_iter(), "blk.9.attn_q"), names[..2]);
        assert_eq!(similar(names.into_iter(), "Output"), ["output.weight"]);
        assert!(similar(names.into_iter(), "").is_empty());
    }
}
