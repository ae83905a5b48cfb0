#[derive(unstale::Key)]
union Bits {
    float: f32,
    bits: u32,
}

fn main() {}
