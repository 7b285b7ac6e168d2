//! The device, and what went wrong with it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::reason::Reason;

/// Which adapters will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Hardware alone.
    Hardware,
    /// Also software (lavapipe, SwiftShader), which shows that the kernels are right.
    Software,
}

/// A device with its queue. Clones share it.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// What the adapter says of itself.
    pub info: wgpu::AdapterInfo,
    /// The first fault since the device was made.
    fault: Arc<Mutex<Option<Reason>>>,
}

impl Gpu {
    /// Asks the system for an adapter and a device with its full buffer sizes.
    ///
    /// # Errors
    /// [`Reason::NoAdapter`], [`Reason::SoftwareAdapter`], [`Reason::Failed`].
    pub async fn request(accept: Accept) -> Result<Self, Reason> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&options).await;
        let adapter = adapter.map_err(|_| Reason::NoAdapter)?;
        let info = adapter.get_info();
        if accept == Accept::Hardware && is_software(&info) {
            // Browsers may keep the name to themselves.
            let name = match info.name.as_str() {
                "" => "without a name".to_owned(),
                name => name.to_owned(),
            };
            return Err(Reason::SoftwareAdapter { name });
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("meetara"),
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) =
            adapter
                .request_device(&descriptor)
                .await
                .map_err(|error| Reason::Failed {
                    what: error.to_string(),
                })?;
        let fault = Arc::new(Mutex::new(None));
        let note = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            record(
                &note,
                Reason::Failed {
                    what: error.to_string(),
                },
            );
        }));
        let note = fault.clone();
        device.set_device_lost_callback(move |_, _| {
            // More telling than the failures that follow from it.
            *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(Reason::DeviceLost);
        });
        Ok(Self {
            device,
            queue,
            info,
            fault,
        })
    }

    /// The first fault since the device was made.
    ///
    /// # Errors
    /// [`Reason::Failed`], [`Reason::DeviceLost`].
    pub fn check(&self) -> Result<(), Reason> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone().map_or(Ok(()), Err)
    }

    /// Takes the device away, as a reset of the driver would.
    pub fn destroy(&self) {
        self.device.destroy();
    }
}

fn record(fault: &Mutex<Option<Reason>>, reason: Reason) {
    fault
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert(reason);
}

/// Browsers do not give the device's type, but name the program.
fn is_software(info: &wgpu::AdapterInfo) -> bool {
    let name = format!("{} {}", info.name, info.driver).to_lowercase();
    info.device_type == wgpu::DeviceType::Cpu
        || ["swiftshader", "llvmpipe", "software", "basic render"]
            .iter()
            .any(|word| name.contains(word))
}
