//! worldline-server
