//! Scalars of the standard library: written and made through their attributes and constructors.
//!
//! What is rare among them - a time zone other than UTC, a class's own idea of a path - is left to
//! the encoders and decoders in Python.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyComplex, PyDict, PyInt, PyString};

use noob_cloud_core_crate::refusal::Limits;

use super::bridge::Bridge;

pub const INTEGER: i8 = 5;
pub const COMPLEX: i8 = 7;
pub const DATETIME: i8 = 8;
pub const DATE: i8 = 9;
pub const TIMEDELTA: i8 = 11;
pub const UUID: i8 = 12;
pub const DECIMAL: i8 = 13;
/// Bytes of a datetime without its zone.
const MOMENT: usize = 12;
const NIL: u8 = 0xc0;
const UTC: u8 = 0x00;

/// A short payload.
pub type Payload = Vec<u8>;

/// What is asked of the standard library, once.
pub struct Library {
    datetime: Py<PyAny>,
    date: Py<PyAny>,
    timedelta: Py<PyAny>,
    decimal: Py<PyAny>,
    utc: Py<PyAny>,
    uuid: Py<PyAny>,
    unsafe_unknown: Py<PyAny>,
    from_bytes: Py<PyAny>,
    signed: Py<PyDict>,
}

impl Library {
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        let datetime = py.import("datetime")?;
        let uuid = py.import("uuid")?;
        let signed = PyDict::new(py);
        signed.set_item("signed", true)?;
        Ok(Self {
            datetime: datetime.getattr("datetime")?.unbind(),
            date: datetime.getattr("date")?.unbind(),
            timedelta: datetime.getattr("timedelta")?.unbind(),
            decimal: py.import("decimal")?.getattr("Decimal")?.unbind(),
            utc: datetime.getattr("timezone")?.getattr("utc")?.unbind(),
            uuid: uuid.getattr("UUID")?.unbind(),
            unsafe_unknown: uuid.getattr("SafeUUID")?.getattr("unknown")?.unbind(),
            from_bytes: py.get_type::<PyInt>().getattr("from_bytes")?.unbind(),
            signed: signed.unbind(),
        })
    }

    /// The payload of a value that a recipe says to be of the type `code`; None where it is one
    /// that Python has to encode.
    pub fn payload(
        &self,
        code: i8,
        value: &Bound<'_, PyAny>,
        bridge: &Bridge,
        limits: &Limits,
        canonical: bool,
    ) -> PyResult<Option<Payload>> {
        let py = value.py();
        Ok(Some(match code {
            INTEGER => self.integer(value, bridge, limits)?,
            COMPLEX => complex(value, canonical),
            DATETIME => {
                let mut payload = day(value)?;
                for name in [
                    intern!(py, "hour"),
                    intern!(py, "minute"),
                    intern!(py, "second"),
                ] {
                    payload.push(value.getattr(name)?.extract()?);
                }
                let microsecond: u32 = value.getattr(intern!(py, "microsecond"))?.extract()?;
                payload.extend(microsecond.to_le_bytes());
                payload.push(value.getattr(intern!(py, "fold"))?.extract()?);
                let zone = value.getattr(intern!(py, "tzinfo"))?;
                payload.push(match () {
                    () if zone.is_none() => NIL,
                    () if zone.is(&self.utc) => UTC,
                    () => return Ok(None),
                });
                payload
            }
            DATE => day(value)?,
            TIMEDELTA => {
                let mut payload = Vec::with_capacity(12);
                for name in [
                    intern!(py, "days"),
                    intern!(py, "seconds"),
                    intern!(py, "microseconds"),
                ] {
                    let part: i32 = value.getattr(name)?.extract()?;
                    payload.extend(part.to_le_bytes());
                }
                payload
            }
            UUID => value
                .getattr(intern!(py, "bytes"))?
                .cast::<PyBytes>()?
                .as_bytes()
                .to_vec(),
            DECIMAL => {
                let text = value.str()?;
                let text = text.to_cow()?;
                check_digits(py, text.len(), bridge, limits)?;
                text.as_bytes().to_vec()
            }
            _ => return Ok(None),
        }))
    }

    /// An int of any size: two's complement, big endian, shortest with a sign bit.
    fn integer(
        &self,
        value: &Bound<'_, PyAny>,
        bridge: &Bridge,
        limits: &Limits,
    ) -> PyResult<Payload> {
        let py = value.py();
        let bits: usize = value.call_method0(intern!(py, "bit_length"))?.extract()?;
        let size = bits / 8 + 1;
        check_digits(py, size, bridge, limits)?;
        let arguments = (size, intern!(py, "big"));
        let signed = self.signed.bind(py);
        let bytes = value.call_method(intern!(py, "to_bytes"), arguments, Some(signed))?;
        Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec())
    }

    /// The value of a payload; None where Python has to decode it.
    pub fn value<'py>(
        &self,
        py: Python<'py>,
        code: i8,
        payload: &[u8],
        bridge: &Bridge,
        limits: &Limits,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(Some(match (code, payload) {
            (INTEGER, _) => {
                check_digits(py, payload.len(), bridge, limits)?;
                let arguments = (PyBytes::new(py, payload), intern!(py, "big"));
                self.from_bytes
                    .bind(py)
                    .call(arguments, Some(self.signed.bind(py)))?
            }
            (COMPLEX, _) => {
                let (parts, rest) = payload.as_chunks::<8>();
                let (&[real, imag], []) = (parts, rest) else {
                    return Ok(None);
                };
                let (real, imag) = (f64::from_le_bytes(real), f64::from_le_bytes(imag));
                PyComplex::from_doubles(py, real, imag).into_any()
            }
            (DATETIME, &[.., 0, zone @ (NIL | UTC)]) if payload.len() == MOMENT + 1 => {
                let zone = if zone == UTC {
                    self.utc.clone_ref(py)
                } else {
                    py.None()
                };
                let year = u16::from_le_bytes([payload[0], payload[1]]);
                let (month, day, hour) = (payload[2], payload[3], payload[4]);
                let (minute, second) = (payload[5], payload[6]);
                let microsecond = payload[7..11].try_into().map_or(0, u32::from_le_bytes);
                let moment = (year, month, day, hour, minute, second, microsecond, zone);
                self.datetime.bind(py).call1(moment)?
            }
            (DATE, &[year, century, month, day]) => {
                let year = u16::from_le_bytes([year, century]);
                self.date.bind(py).call1((year, month, day))?
            }
            (TIMEDELTA, _) => {
                let (parts, rest) = payload.as_chunks::<4>();
                let (&[days, seconds, microseconds], []) = (parts, rest) else {
                    return Ok(None);
                };
                let part = i32::from_le_bytes;
                let parts = (part(days), part(seconds), part(microseconds));
                self.timedelta.bind(py).call1(parts)?
            }
            (UUID, _) if payload.len() == 16 => self.uuid(py, payload)?,
            (DECIMAL, _) if payload.is_ascii() => {
                check_digits(py, payload.len(), bridge, limits)?;
                self.decimal
                    .bind(py)
                    .call1((PyString::from_bytes(py, payload)?,))?
            }
            _ => return Ok(None),
        }))
    }

    /// The UUID of 16 bytes, any of which are one: its constructor would only look which were given.
    fn uuid<'py>(&self, py: Python<'py>, payload: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let arguments = (PyBytes::new(py, payload), intern!(py, "big"));
        let number = self.from_bytes.bind(py).call1(arguments)?;
        let class = self.uuid.as_ptr().cast::<ffi::PyTypeObject>();
        // SAFETY: UUID is a plain class of two attributes; nobody sees it before both are set.
        unsafe {
            let made = Bound::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class, 0))?;
            let attributes = [
                (intern!(py, "int"), number.as_ptr()),
                (intern!(py, "is_safe"), self.unsafe_unknown.as_ptr()),
            ];
            for (name, value) in attributes {
                if ffi::PyObject_GenericSetAttr(made.as_ptr(), name.as_ptr(), value) != 0 {
                    return Err(PyErr::fetch(py));
                }
            }
            Ok(made)
        }
    }

    /// Whether values of this type can be made only one extension deeper, for their zone.
    pub fn goes_deeper(code: i8) -> bool {
        code == DATETIME
    }
}

fn check_digits(py: Python<'_>, size: usize, bridge: &Bridge, limits: &Limits) -> PyResult<()> {
    if size <= limits.digits {
        return Ok(());
    }
    let limit = limits.digits;
    let message = format!(
        "The number has {size} bytes, over the limit of {limit} (Limits.digits). Send it as bytes \
         or in an array."
    );
    Err(bridge.limit(py, "digits", &message))
}

fn complex(value: &Bound<'_, PyAny>, canonical: bool) -> Payload {
    // SAFETY: a recipe's value is exactly of its type, so that neither fails nor runs Python.
    let parts = unsafe {
        [
            ffi::PyComplex_RealAsDouble(value.as_ptr()),
            ffi::PyComplex_ImagAsDouble(value.as_ptr()),
        ]
    };
    let one = |part: f64| {
        if canonical && part.is_nan() {
            f64::from_bits(0x7ff8 << 48)
        } else {
            part
        }
    };
    parts
        .into_iter()
        .flat_map(|part| one(part).to_le_bytes())
        .collect()
}

fn day(value: &Bound<'_, PyAny>) -> PyResult<Payload> {
    let py = value.py();
    let year: u16 = value.getattr(intern!(py, "year"))?.extract()?;
    let mut payload = Vec::with_capacity(MOMENT + 1);
    payload.extend(year.to_le_bytes());
    payload.push(value.getattr(intern!(py, "month"))?.extract()?);
    payload.push(value.getattr(intern!(py, "day"))?.extract()?);
    Ok(payload)
}
