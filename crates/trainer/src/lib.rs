//! worldline-trainer
