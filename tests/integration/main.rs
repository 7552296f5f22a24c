//! Tests of the whole program over real HTTP.

mod web;
