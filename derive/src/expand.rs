//! The implementation that the derive writes.

use std::collections::BTreeSet;

use proc_macro2::{Ident, Literal, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::{Data, DataEnum, DataStruct, DeriveInput, Error, Fields, Index, Member, Result, Type};

use crate::attributes;

/// The fields of a struct or of a variant that are part of the key.
struct Encoded<'a>(Vec<(Member, &'a Type)>);

/// What differs between kinds of types.
struct Body {
    format: TokenStream,
    encode: TokenStream,
    digest: Option<TokenStream>,
}

pub(crate) fn key(input: &DeriveInput) -> Result<TokenStream> {
    let format = attributes::format(&input.attrs)?;
    let mut types = Vec::new();
    let body = match &input.data {
        Data::Struct(data) => of_struct(input, data, &mut types)?,
        Data::Enum(data) => of_enum(data, &mut types)?,
        Data::Union(_) => {
            let why = "a union is no key: nothing says which of its fields holds a value";
            return Err(Error::new_spanned(&input.ident, why));
        }
    };
    let name = &input.ident;
    let generics = bounded(input, &types);
    let (parameters, arguments, bounds) = generics.split_for_impl();
    let format = format.map_or(body.format, |it| {
        Literal::u32_suffixed(it).into_token_stream()
    });
    let (encode, digest) = (body.encode, body.digest);
    Ok(quote! {
        #[automatically_derived]
        impl #parameters ::unstale::Key for #name #arguments #bounds {
            const FORMAT: u32 = #format;
            fn encode(&self, __out: &mut ::unstale::KeyEncoder) {
                #encode
            }
            #digest
        }
    })
}

fn of_struct<'a>(
    input: &DeriveInput,
    data: &'a DataStruct,
    types: &mut Vec<&'a Type>,
) -> Result<Body> {
    let fields = Encoded::of(&data.fields)?;
    if fields.0.is_empty() && !data.fields.is_empty() {
        let why = "every field is skipped, so that all keys are one";
        return Err(Error::new_spanned(&input.ident, why));
    }
    types.extend(fields.types());
    let encodes = fields
        .0
        .iter()
        .map(|(member, _)| quote!(::unstale::Key::encode(&self.#member, __out);));
    // One field is as it is without the struct: as fast, too.
    let digest = match &fields.0[..] {
        [(member, _)] => Some(quote! {
            #[inline]
            fn digest(&self) -> ::core::option::Option<u64> {
                ::unstale::Key::digest(&self.#member)
            }
        }),
        _ => None,
    };
    let format = match &data.fields {
        Fields::Named(_) => fields.format(""),
        Fields::Unnamed(_) => fields.format_of_a_tuple(),
        Fields::Unit => quote!(1),
    };
    Ok(Body {
        format,
        encode: quote!(#(#encodes)*),
        digest,
    })
}

fn of_enum<'a>(data: &'a DataEnum, types: &mut Vec<&'a Type>) -> Result<Body> {
    let mut arms = Vec::new();
    let mut formats = Vec::new();
    for variant in &data.variants {
        attributes::refuse(&variant.attrs)?;
        let fields = Encoded::of(&variant.fields)?;
        types.extend(fields.types());
        let (ident, name) = (&variant.ident, variant.ident.unraw().to_string());
        formats.push(fields.format(&name));
        let members = fields.0.iter().map(|(member, _)| member);
        let bindings: Vec<Ident> = fields.bindings();
        let bytes = Literal::byte_string(name.as_bytes());
        arms.push(quote! {
            Self::#ident { #(#members: #bindings,)* .. } => {
                __out.part(#bytes);
                #(::unstale::Key::encode(#bindings, __out);)*
            }
        });
    }
    let encode = if arms.is_empty() {
        quote!(match *self {})
    } else {
        quote!(match self { #(#arms)* })
    };
    // A sum, so that the order of the variants does not count.
    Ok(Body {
        format: quote!(0_u32 #(.wrapping_add(#formats))*),
        encode,
        digest: None,
    })
}

impl<'a> Encoded<'a> {
    fn of(fields: &'a Fields) -> Result<Self> {
        let mut encoded = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            if attributes::skips(&field.attrs)? {
                continue;
            }
            let member = match &field.ident {
                Some(name) => Member::Named(name.clone()),
                None => Member::Unnamed(Index::from(index)),
            };
            encoded.push((member, &field.ty));
        }
        Ok(Self(encoded))
    }

    fn types(&self) -> impl Iterator<Item = &'a Type> {
        self.0.iter().map(|(_, ty)| *ty)
    }

    fn bindings(&self) -> Vec<Ident> {
        let numbers = 0..self.0.len();
        numbers.map(|n| format_ident!("__field_{n}")).collect()
    }

    /// Another number whenever a name, a type or the order changes.
    fn format(&self, variant: &str) -> TokenStream {
        let fields = self.0.iter().map(|(member, ty)| {
            let name = match member {
                Member::Named(name) => name.unraw().to_string(),
                Member::Unnamed(index) => index.index.to_string(),
            };
            quote!((#name, <#ty as ::unstale::Key>::FORMAT))
        });
        quote!(::unstale::__derived::format(#variant, &[#(#fields),*]))
    }

    fn format_of_a_tuple(&self) -> TokenStream {
        let types = self.types();
        quote!(0_u32 #(.wrapping_mul(31).wrapping_add(<#types as ::unstale::Key>::FORMAT))*)
    }
}

/// The type's generics, with a bound for each field that mentions a parameter, and for what every
/// key must be.
fn bounded(input: &DeriveInput, types: &[&Type]) -> syn::Generics {
    let mut generics = input.generics.clone();
    let parameters: BTreeSet<String> = generics
        .type_params()
        .map(|parameter| parameter.ident.to_string())
        .collect();
    if parameters.is_empty() {
        return generics;
    }
    let bounds = generics.make_where_clause();
    bounds.predicates.push(syn::parse_quote! {
        Self: ::core::cmp::Eq + ::core::marker::Send + ::core::marker::Sync
    });
    let mut bound = BTreeSet::new();
    for ty in types {
        let tokens = ty.to_token_stream();
        if bound.insert(tokens.to_string()) && mentions(tokens, &parameters) {
            bounds
                .predicates
                .push(syn::parse_quote!(#ty: ::unstale::Key));
        }
    }
    generics
}

fn mentions(tokens: TokenStream, parameters: &BTreeSet<String>) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(name) => parameters.contains(&name.to_string()),
        TokenTree::Group(group) => mentions(group.stream(), parameters),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}
