//! Any bytes as an event: no panic, no memory that they do not pay for, nothing read that could not
//! be written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unstale::internals::check_payload;

fuzz_target!(|payload: &[u8]| {
    check_payload(payload);
});
