//! `spec.nodeName`: a pod that names its node goes there or nowhere.

use crate::kinds::name::NodeName;
use crate::kinds::pod::PodSpec;

use super::Why;

pub(super) fn refuses(spec: &PodSpec, name: &NodeName) -> Option<Why> {
    spec.node_name.as_ref().filter(|asked| *asked != name).map(|_| Why::OtherNode)
}
