//! Values of components as text: the Wasm Value Encoding, WAVE.

use std::borrow::Cow;

use wasm_wave::untyped::UntypedFuncCall;
use wasm_wave::value;
use wasm_wave::wasm::{WasmType, WasmTypeKind, WasmValue, WasmValueError};
use wasmtime::component::{self, Val};

/// A type whose values have a text.
pub(super) struct Type(value::Type);

impl Type {
    /// # Errors
    /// Its values have none.
    pub(super) fn of(of: &component::Type) -> Result<Self, String> {
        convert(of).map(Type).ok_or_else(|| format!("values of the type {of:?} have no text"))
    }
}

fn convert(of: &component::Type) -> Option<value::Type> {
    use component::Type as From;
    use value::Type as To;
    Some(match of {
        From::Bool => To::BOOL,
        From::S8 => To::S8,
        From::U8 => To::U8,
        From::S16 => To::S16,
        From::U16 => To::U16,
        From::S32 => To::S32,
        From::U32 => To::U32,
        From::S64 => To::S64,
        From::U64 => To::U64,
        From::Float32 => To::F32,
        From::Float64 => To::F64,
        From::Char => To::CHAR,
        From::String => To::STRING,
        From::List(list) => To::list(convert(&list.ty())?),
        From::FixedLengthList(list) => To::fixed_length_list(convert(&list.ty())?, list.len()),
        From::Record(record) => {
            let fields: Option<Vec<_>> = record.fields().map(|field| Some((field.name, convert(&field.ty)?))).collect();
            To::record(fields?)?
        }
        From::Tuple(tuple) => To::tuple(tuple.types().map(|of| convert(&of)).collect::<Option<Vec<_>>>()?)?,
        From::Variant(variant) => {
            let case = |case: component::types::Case<'_>| {
                Some((case.name.to_owned(), case.ty.as_ref().map(|of| convert(of).ok_or(())).transpose().ok()?))
            };
            To::variant(variant.cases().map(case).collect::<Option<Vec<_>>>()?)?
        }
        From::Enum(cases) => To::enum_ty(cases.names().map(str::to_owned).collect::<Vec<_>>())?,
        From::Option(option) => To::option(convert(&option.ty())?),
        From::Result(result) => {
            let side = |of: Option<component::Type>| of.map(|of| convert(&of).ok_or(())).transpose().ok();
            To::result(side(result.ok())?, side(result.err())?)
        }
        From::Flags(flags) => To::flags(flags.names().map(str::to_owned).collect::<Vec<_>>())?,
        From::Map(_) | From::Own(_) | From::Borrow(_) | From::Future(_) | From::Stream(_) | From::ErrorContext => return None,
    })
}

/// Reads one argument. A string may be given as it is, without WAVE's quotes.
pub(super) fn read(of: &Type, text: &str) -> Result<Val, String> {
    if of.0.kind() == WasmTypeKind::String && !text.starts_with('"') {
        return Ok(Val::String(text.to_owned()));
    }
    let value: value::Value = wasm_wave::from_str(&of.0, text).map_err(|error| format!("{text}: {error}"))?;
    Ok(from(&value))
}

/// Reads the arguments of a call, parentheses and all.
pub(super) fn read_call(types: &[Type], text: &str) -> Result<Vec<Val>, String> {
    let call = format!("call{text}");
    let told = |error: wasm_wave::parser::ParserError| format!("{text}: {error}");
    let call = UntypedFuncCall::parse(&call).map_err(told)?;
    let values = call.to_wasm_params::<value::Value>(types.iter().map(|of| &of.0)).map_err(told)?;
    Ok(values.iter().map(from).collect())
}

fn from(value: &value::Value) -> Val {
    let boxed = |value: Option<Cow<'_, value::Value>>| value.map(|value| Box::new(from(&value)));
    match value.kind() {
        WasmTypeKind::Bool => Val::Bool(value.unwrap_bool()),
        WasmTypeKind::S8 => Val::S8(value.unwrap_s8()),
        WasmTypeKind::U8 => Val::U8(value.unwrap_u8()),
        WasmTypeKind::S16 => Val::S16(value.unwrap_s16()),
        WasmTypeKind::U16 => Val::U16(value.unwrap_u16()),
        WasmTypeKind::S32 => Val::S32(value.unwrap_s32()),
        WasmTypeKind::U32 => Val::U32(value.unwrap_u32()),
        WasmTypeKind::S64 => Val::S64(value.unwrap_s64()),
        WasmTypeKind::U64 => Val::U64(value.unwrap_u64()),
        WasmTypeKind::F32 => Val::Float32(value.unwrap_f32()),
        WasmTypeKind::F64 => Val::Float64(value.unwrap_f64()),
        WasmTypeKind::Char => Val::Char(value.unwrap_char()),
        WasmTypeKind::String => Val::String(value.unwrap_string().into_owned()),
        WasmTypeKind::FixedLengthList => Val::FixedLengthList(value.unwrap_list().map(|value| from(&value)).collect()),
        WasmTypeKind::List => Val::List(value.unwrap_list().map(|value| from(&value)).collect()),
        WasmTypeKind::Record => {
            Val::Record(value.unwrap_record().map(|(name, value)| (name.into_owned(), from(&value))).collect())
        }
        WasmTypeKind::Tuple => Val::Tuple(value.unwrap_tuple().map(|value| from(&value)).collect()),
        WasmTypeKind::Variant => {
            let (case, value) = value.unwrap_variant();
            Val::Variant(case.into_owned(), boxed(value))
        }
        WasmTypeKind::Enum => Val::Enum(value.unwrap_enum().into_owned()),
        WasmTypeKind::Option => Val::Option(boxed(value.unwrap_option())),
        WasmTypeKind::Result => Val::Result(value.unwrap_result().map(boxed).map_err(boxed)),
        WasmTypeKind::Flags => Val::Flags(value.unwrap_flags().map(Cow::into_owned).collect()),
        // No other can have come of a type that was converted above.
        _ => Val::Bool(false),
    }
}

/// Text of a result.
pub(super) fn write(of: &Type, value: &Val) -> String {
    let value = to(&of.0, value).map_err(|error| error.to_string());
    let text = value.and_then(|value| wasm_wave::to_string(&value).map_err(|error| error.to_string()));
    text.unwrap_or_else(|error| format!("<{error}>"))
}

fn to(of: &value::Type, value: &Val) -> Result<value::Value, WasmValueError> {
    use value::Value;
    let lacking = || WasmValueError::UnsupportedType(format!("{of:?}"));
    let inner = |of: Option<value::Type>, value: &Option<Box<Val>>| match value {
        Some(value) => to(&of.ok_or_else(lacking)?, value).map(Some),
        None => Ok(None),
    };
    match value {
        Val::Bool(value) => Ok(Value::make_bool(*value)),
        Val::S8(value) => Ok(Value::make_s8(*value)),
        Val::U8(value) => Ok(Value::make_u8(*value)),
        Val::S16(value) => Ok(Value::make_s16(*value)),
        Val::U16(value) => Ok(Value::make_u16(*value)),
        Val::S32(value) => Ok(Value::make_s32(*value)),
        Val::U32(value) => Ok(Value::make_u32(*value)),
        Val::S64(value) => Ok(Value::make_s64(*value)),
        Val::U64(value) => Ok(Value::make_u64(*value)),
        Val::Float32(value) => Ok(Value::make_f32(*value)),
        Val::Float64(value) => Ok(Value::make_f64(*value)),
        Val::Char(value) => Ok(Value::make_char(*value)),
        Val::String(value) => Ok(Value::make_string(value.into())),
        Val::List(values) | Val::FixedLengthList(values) => {
            let element = of.list_element_type().ok_or_else(lacking)?;
            Value::make_list(of, values.iter().map(|value| to(&element, value)).collect::<Result<Vec<_>, _>>()?)
        }
        Val::Record(fields) => {
            let types: Vec<_> = of.record_fields().collect();
            let fields = fields.iter().zip(&types).map(|((name, value), (_, of))| Ok((name.as_str(), to(of, value)?)));
            Value::make_record(of, fields.collect::<Result<Vec<_>, _>>()?)
        }
        Val::Tuple(values) => {
            let types: Vec<_> = of.tuple_element_types().collect();
            let values = values.iter().zip(&types).map(|(value, of)| to(of, value));
            Value::make_tuple(of, values.collect::<Result<Vec<_>, _>>()?)
        }
        Val::Variant(case, value) => {
            let of_case = of.variant_cases().find(|(name, _)| name == case).and_then(|(_, of)| of);
            Value::make_variant(of, case, inner(of_case, value)?)
        }
        Val::Enum(case) => Value::make_enum(of, case),
        Val::Option(value) => Value::make_option(of, inner(of.option_some_type(), value)?),
        Val::Result(result) => {
            let (ok, err) = of.result_types().ok_or_else(lacking)?;
            let result = match result {
                Ok(value) => Ok(inner(ok, value)?),
                Err(value) => Err(inner(err, value)?),
            };
            Value::make_result(of, result)
        }
        Val::Flags(names) => Value::make_flags(of, names.iter().map(String::as_str)),
        Val::Map(_) | Val::Resource(_) | Val::Future(_) | Val::Stream(_) | Val::ErrorContext(_) => Err(lacking()),
    }
}
