//! What the derive refuses, and what it says.

#[test]
fn what_would_leave_something_out_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
