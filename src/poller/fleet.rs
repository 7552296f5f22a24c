//! The poll tasks of all tenants, and what a changed configuration does to them.
