//! Blocks that another implementation wrote: version 4 of the `hpack` package for Python, with its policy, the Huffman
//! code and changes of the table's size.

use super::*;

/// A block in hexadecimal, then its fields, indented.
const BLOCKS: &str = include_str!("interop.txt");

#[test]
fn blocks_of_another_implementation_are_read() {
    let mut decoder = Decoder::new(4096);
    let mut count = 0;
    for story in BLOCKS.split("\n\n").filter(|story| !story.is_empty()) {
        let (block, expect) = story.split_once('\n').unwrap();
        let expect: String = expect.lines().map(|line| format!("{}\n", line.trim_start())).collect();
        let fields = decode(&mut decoder, &unhex(block)).unwrap();
        assert_eq!(shown(&fields), expect);
        count += 1;
    }
    assert_eq!(count, 24);
}
