//! Where tensors live: the CPU, or a GPU in builds with the `cuda` feature.

use candle_core::Device;

use crate::error::{Error, Result};

/// A place to run, as a user names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The CPU.
    #[default]
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

impl Place {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no such device or this build cannot use it.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => Device::new_cuda(0).map_err(|source| Error::Device { source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_gpu_is_refused_by_a_build_without_cuda() {
        let error = Place::Cuda.open().unwrap_err().to_string();
        assert!(error.contains("`cuda` feature"), "{error}");
        assert!(Place::Cpu.open().unwrap().is_cpu());
    }
}
