//! Enums with a text for each variant, such as the values of a label.

/// Declares the enum, the list of its variants and their texts in one place, so that the three cannot disagree.
macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// All variants, so that a metric can have a series for every value of a label from the start.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// The text of the variant.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}
