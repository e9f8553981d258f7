//! What of librdkafka is ours to destroy.

use std::ptr::NonNull;

/// Something that librdkafka made, and that it destroys when this is dropped.
pub(super) struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

// SAFETY: librdkafka takes its objects from any thread, one at a time.
#[expect(unsafe_code, reason = "a consumer is read by another thread in each epoch")]
unsafe impl<T> Send for Owned<T> {}

impl<T> Owned<T> {
    /// Takes what a call returned; nothing where that was nothing.
    ///
    /// # Safety
    ///
    /// Nobody else destroys what `pointer` points to, and `destroy` is the call that does.
    #[expect(unsafe_code, reason = "only the caller knows whose the pointer is")]
    pub(super) unsafe fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        Some(Self { pointer: NonNull::new(pointer)?, destroy })
    }

    pub(super) fn pointer(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    #[expect(unsafe_code, reason = "what librdkafka made is destroyed by it alone")]
    fn drop(&mut self) {
        // SAFETY: whoever made this promised that `destroy` takes the pointer, and that nobody else destroys it.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}
