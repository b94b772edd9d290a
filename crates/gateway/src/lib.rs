//! The Kong front end: entities, declarative format, lowering.
