//! worldline-arena
