//! Compiled kernels on disk: saved if the driver supports it, loaded again, and replaced if damaged.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use std::path::Path;
use weft_gpu::shader::{KernelSpec, parts};
use weft_gpu::{Gpu, GpuOptions};

/// Opens the device with this folder, compiles a kernel, and returns the files in the folder with their sizes.
fn compile(folder: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let options = GpuOptions { cache: Some(folder.to_owned()), ..GpuOptions::default() };
    let gpu = pollster::block_on(Gpu::open(&options)).unwrap();
    gpu.pipelines.prepare(&[KernelSpec::new("chain", [parts::DISPATCH_CHAIN]).with("WG", 64u32)]);
    assert_eq!(gpu.failure(), None);
    assert_eq!(gpu.pipelines.len(), 1);
    let Ok(files) = std::fs::read_dir(folder) else {
        assert!(!gpu.capabilities.pipeline_cache, "nothing was kept");
        return Vec::new();
    };
    files.map(|file| file.unwrap()).map(|file| (file.path(), file.metadata().unwrap().len())).collect()
}

#[test]
fn kernels_are_kept_and_a_damaged_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kernels");
    let first = compile(&kept);
    let [(file, bytes)] = &first[..] else {
        assert!(first.is_empty(), "{first:?}");
        return;
    };
    assert!(*bytes > 0 && file.extension().is_none_or(|extension| extension != "part"));
    assert_eq!(compile(&kept), first, "read, and as good as before");
    for damaged in [Vec::new(), vec![0x5a; 200], std::fs::read(file).unwrap()[..*bytes as usize / 2].to_vec()]
    {
        std::fs::write(file, damaged).unwrap();
        assert_eq!(compile(&kept), first);
    }
}
