//! The pattern step by itself.
