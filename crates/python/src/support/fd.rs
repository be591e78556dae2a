//! Takes ownership of descriptors that Python passes as numbers.
//!
//! A number proves nothing, so turning it into an owned descriptor would be unsafe code. Sending it to ourselves over a
//! socket is safe: the kernel checks the number, and we own the descriptor that arrives.

use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketType,
};

/// Takes ownership of a descriptor: closes the number and returns an owned duplicate.
pub fn take_over(py: Python<'_>, fd: RawFd) -> PyResult<OwnedFd> {
    let owned = duplicate(py, fd)?;
    py.import("os")?.call_method1("close", (fd,))?;
    Ok(owned)
}

fn duplicate(py: Python<'_>, fd: RawFd) -> PyResult<OwnedFd> {
    let (receiver, sender) = UnixStream::pair()?;
    let socket = py.import("socket")?;
    let (family, kind) = (AddressFamily::UNIX.as_raw(), SocketType::STREAM.as_raw());
    let sender = socket.call_method1("socket", (family, kind, 0, sender.into_raw_fd()))?;
    let sent = socket.call_method1("send_fds", (&sender, [b"."], [fd]));
    sender.call_method0("close")?;
    sent?;

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut arrived = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(
        &receiver,
        &mut [std::io::IoSliceMut::new(&mut byte)],
        &mut arrived,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(std::io::Error::from)?;
    for message in arrived.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(owned) = descriptors.next()
        {
            return Ok(owned);
        }
    }
    Err(PyOSError::new_err(
        "the kernel did not pass the descriptor on",
    ))
}
