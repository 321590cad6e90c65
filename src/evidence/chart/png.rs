//! Pixels as a PNG file. <https://www.w3.org/TR/png-3/>

use crate::net::gzip;

/// A picture of RGB pixels, three bytes each, row by row.
pub(super) fn encode(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    let row = width as usize * 3;
    let mut filtered = Vec::with_capacity(pixels.len() + height as usize);
    for line in pixels.chunks_exact(row) {
        // Filter 0: flat areas of one colour pack well as they are.
        filtered.push(0);
        filtered.extend_from_slice(line);
    }
    let mut head = Vec::from(width.to_be_bytes());
    head.extend(height.to_be_bytes());
    // 8 bits, RGB, deflate, filters by row, not interlaced.
    head.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, *b"IHDR", &head);
    chunk(&mut file, *b"IDAT", &gzip::zlib(&filtered));
    chunk(&mut file, *b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    file.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    let mut checked = kind.to_vec();
    checked.extend_from_slice(data);
    file.extend_from_slice(&checked);
    file.extend(crc32fast::hash(&checked).to_be_bytes());
}
