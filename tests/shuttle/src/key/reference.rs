//! Keys are looked up by themselves here.

pub trait KeyRef<K> {
    fn matches(&self, key: &K) -> bool;
}

impl<K: Eq> KeyRef<K> for K {
    fn matches(&self, key: &K) -> bool {
        self == key
    }
}
