//! In place of the crate's: nothing panics here but a test that has failed.

#[derive(Debug, Default)]
pub(crate) struct Contain;

impl Contain {
    pub(crate) fn run<T>(&self, _: &'static str, code: impl FnOnce() -> T) -> Option<T> {
        Some(code())
    }

    pub(crate) fn drop<T>(&self, _: &'static str, value: T) {
        drop(value);
    }
}
