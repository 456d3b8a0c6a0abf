//! worldline-cartridge
