//! Pods that wait for an image that could not be had.

use super::Memory;
use crate::kinds::time::Now;

impl Memory {
    /// Images have come: whoever waits for one asks at once, and not when its turn has come.
    pub fn images_came(&mut self, now: Now) {
        for container in self.pods.values_mut().flat_map(|pod| pod.containers.values_mut()) {
            if let Some(trouble) = &mut container.image_trouble {
                trouble.forgive(now.elapsed);
            }
        }
    }
}
