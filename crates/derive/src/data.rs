//! The implementations for structs and enums.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DataEnum, DataStruct, Error, Fields, Ident, Path, Result};

use crate::repr::Repr;

/// The fields one after the other, in the order in which they are declared.
pub(crate) fn of_struct(krate: &Path, name: &Ident, data: &DataStruct, repr: Repr) -> TokenStream {
    let members: Vec<_> = data.fields.members().collect();
    let types: Vec<_> = data.fields.iter().map(|field| &field.ty).collect();
    let sizes = types
        .iter()
        .map(|ty| quote_spanned! { ty.span() => <#ty as #krate::Plain>::SIZE });
    let writes = members
        .iter()
        .zip(&types)
        .map(|(member, ty)| match repr.is_packed {
            true => quote! { fields.write::<#ty>(&{ self.#member }); },
            false => quote! { fields.write::<#ty>(&self.#member); },
        });
    let in_place = repr.is_ordered.then(|| in_place(krate, name, &data.fields));

    quote! {
        #[automatically_derived]
        impl #krate::Plain for #name {
            const SIZE: usize = 0 #(+ #sizes)*;

            fn write(&self, bytes: &mut [u8]) {
                let mut fields = #krate::__derive::FieldsMut::of(bytes);
                #(#writes)*
                fields.end();
            }

            fn read(bytes: &[u8]) -> Self {
                let mut fields = #krate::__derive::Fields::of(bytes);
                let value = Self { #(#members: fields.read::<#types>()),* };
                fields.end();
                value
            }
        }

        #in_place
    }
}

/// `InPlace`, on conditions that the compiler checks where the type is used in place: a struct that has padding, or a
/// field that cannot be used in place, is plain all the same.
///
/// The engine's macro writes the `unsafe impl` and its conditions. So they are the engine's own, whatever the user's
/// code means by the path of the crate.
fn in_place(krate: &Path, name: &Ident, fields: &Fields) -> TokenStream {
    let members = fields.members();
    let types = fields.iter().map(|field| &field.ty);
    quote! {
        #krate::__derive::in_place! { #name { #(#members: #types,)* } }
    }
}

/// The number of the variant. Bytes that are no variant's number read as the default one.
pub(crate) fn of_enum(krate: &Path, name: &Ident, data: &DataEnum) -> Result<TokenStream> {
    if let Some(variant) = data.variants.iter().find(|it| !it.fields.is_empty()) {
        return Err(Error::new_spanned(
            variant,
            "`Plain` can be derived only for enums whose variants have no fields; share others in a \
             `procession::Mutex`",
        ));
    }
    if data.variants.is_empty() {
        return Err(Error::new_spanned(
            name,
            "`Plain` cannot be derived for an enum without variants: no bytes are a value of it",
        ));
    }
    let variants = data.variants.iter().map(|variant| &variant.ident);
    let default = quote_spanned! { name.span() => <Self as ::core::default::Default>::default() };

    Ok(quote! {
        #[automatically_derived]
        impl #krate::Plain for #name {
            const SIZE: usize = ::core::mem::size_of::<#name>();

            fn write(&self, bytes: &mut [u8]) {
                // The first bytes of the number hold the whole variant, because it fits the size.
                bytes.copy_from_slice(&(*self as i128).to_le_bytes()[..Self::SIZE]);
            }

            fn read(bytes: &[u8]) -> Self {
                #(
                    if *bytes == (Self::#variants as i128).to_le_bytes()[..Self::SIZE] {
                        return Self::#variants;
                    }
                )*
                #default
            }
        }
    })
}
