//! What the marks prove, as the store takes it.

pub(crate) mod source {
    use crate::time::Nanos;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub(crate) struct Proof {
        pub(crate) at: Nanos,
        pub(crate) token: u64,
        pub(crate) place: u64,
    }
}
