//! Tables of answers and what is told of them.
