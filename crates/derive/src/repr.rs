//! What `#[repr(...)]` says of a type's layout.

use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Result, Token};

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Repr {
    /// The fields lie in the order in which they are declared.
    pub(crate) is_ordered: bool,
    /// The fields may be unaligned, so there must be no references to them.
    pub(crate) is_packed: bool,
}

impl Repr {
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Repr> {
        let mut repr = Repr::default();
        let reprs = attributes.iter().filter(|it| it.path().is_ident("repr"));
        for attribute in reprs {
            let words =
                attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)?;
            for word in words {
                repr.is_ordered |= word.path().is_ident("C") || word.path().is_ident("transparent");
                repr.is_packed |= word.path().is_ident("packed");
            }
        }
        Ok(repr)
    }
}
