//! The page at `/`, for people.
