//! `#[derive(Plain)]` of the crate `procession`, whose trait `Plain` describes it.

#![forbid(unsafe_code)]

mod data;
mod repr;

use proc_macro::TokenStream;
use syn::{Data, DeriveInput, Error, Path, Result, parse_macro_input, parse_quote};

use repr::Repr;

/// Implements the trait `Plain` for a struct of plain fields or an enum without fields.
///
/// The trait's documentation says what can be derived, and shows it. `#[plain(crate = path)]` names the crate
/// `procession` where it has another name.
#[proc_macro_derive(Plain, attributes(plain))]
pub fn derive_plain(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    plain(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

fn plain(input: &DeriveInput) -> Result<proc_macro2::TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "`Plain` can be derived only for types without generics",
        ));
    }
    let krate = crate_path(input)?;
    let repr = Repr::of(&input.attrs)?;
    match &input.data {
        Data::Struct(data) => Ok(data::of_struct(&krate, &input.ident, data, repr)),
        Data::Enum(data) => data::of_enum(&krate, &input.ident, data),
        Data::Union(_) => Err(Error::new_spanned(
            &input.ident,
            "`Plain` cannot be derived for a union: its bytes do not tell which field they are; use a struct, or an \
             array of bytes",
        )),
    }
}

/// The crate `procession`, as the user's crate calls it.
fn crate_path(input: &DeriveInput) -> Result<Path> {
    let mut path: Path = parse_quote!(::procession);
    for attribute in &input.attrs {
        if !attribute.path().is_ident("plain") {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("the only option of `Plain` is `#[plain(crate = path)]`"));
            }
            path = meta.value()?.call(Path::parse_mod_style)?;
            Ok(())
        })?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(input: DeriveInput) -> String {
        plain(&input).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_derived_is_refused_with_a_sentence() {
        let shape = refusal(parse_quote! { enum Shape { Point, Circle(f64) } });
        assert!(
            shape.contains("only for enums whose variants have no fields"),
            "{shape}"
        );
        let never = refusal(parse_quote! { enum Never {} });
        assert!(never.contains("an enum without variants"), "{never}");
        let either = refusal(parse_quote! { union Either { number: u32, bytes: [u8; 4] } });
        assert!(either.contains("cannot be derived for a union"), "{either}");
        let pair = refusal(parse_quote! { struct Pair<T>(T, T); });
        assert!(pair.contains("only for types without generics"), "{pair}");
        let option = refusal(parse_quote! { #[plain(packed)] struct Point { x: f64 } });
        assert!(option.contains("#[plain(crate = path)]"), "{option}");
    }

    fn code(input: DeriveInput) -> String {
        plain(&input).unwrap().to_string()
    }

    #[test]
    fn only_a_struct_of_a_known_order_can_be_used_in_place() {
        let unordered = code(parse_quote! { struct Point { x: f64 } });
        assert!(!unordered.contains("in_place"), "{unordered}");
        let ordered = code(parse_quote! { #[repr(C)] struct Point { x: f64 } });
        assert!(
            ordered.contains("in_place ! { Point { x : f64 , } }"),
            "{ordered}"
        );
        let light = code(parse_quote! { #[repr(u8)] enum Light { Red } });
        assert!(!light.contains("in_place"), "{light}");
    }

    #[test]
    fn the_crate_may_have_another_name() {
        let point =
            code(parse_quote! { #[plain(crate = shared::processes)] struct Point { x: f64 } });
        assert!(
            point.contains("impl shared :: processes :: Plain for Point"),
            "{point}"
        );
        assert!(!point.contains(":: procession"), "{point}");
    }
}
