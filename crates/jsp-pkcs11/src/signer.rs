//! An Ed25519 key in a token.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use jsp_crypto::{PublicIdentity, SignError, Signer};

use crate::attributes::{CURVE_NAME, CURVE_OID, is_ed25519, public_key};
use crate::error::TokenError;

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// The token's PKCS#11 module: a shared library that comes with it.
    pub module: PathBuf,
    /// The label of the token.
    pub token: String,
    /// The label of the key pair (CKA_LABEL of both halves).
    pub key: String,
}

/// An identity whose secret key stays in a token. Logged in as long as it lives.
///
/// Signing blocks on the token; calls from several threads go one after another.
pub struct TokenSigner {
    // A session serves one thread at a time.
    session: Mutex<Session>,
    private: ObjectHandle,
    public: PublicIdentity,
}

impl TokenSigner {
    /// Logs in with the user's PIN and finds the key. Blocks on the token.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open(place: &TokenKey, pin: String) -> Result<Self, TokenError> {
        let session = log_in(place, pin, false)?;
        let private = one_key(&session, ObjectClass::PRIVATE_KEY, &place.key)?;
        let half = one_key(&session, ObjectClass::PUBLIC_KEY, &place.key)?;
        let public =
            read_public(&session, half)?.ok_or_else(|| TokenError::NoKey(place.key.clone()))?;
        Ok(Self { session: Mutex::new(session), private, public })
    }

    /// Makes a new key pair in the token, which never lets the secret half out: there is no backup
    /// unless the token has its own. Blocks on the token.
    ///
    /// # Errors
    /// See [`TokenError`]; a key that is there is not replaced.
    pub fn generate(place: &TokenKey, pin: String) -> Result<Self, TokenError> {
        let session = log_in(place, pin, true)?;
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            let template = [Attribute::Class(class), label(&place.key)];
            if !session.find_objects(&template)?.is_empty() {
                return Err(TokenError::Exists(place.key.clone()));
            }
        }
        // Tokens know the curve by its name, by its number, or by both.
        let (half, private) = generate_pair(&session, &place.key, CURVE_NAME)
            .or_else(|first| generate_pair(&session, &place.key, CURVE_OID).map_err(|_| first))?;
        let public =
            read_public(&session, half)?.ok_or_else(|| TokenError::NoKey(place.key.clone()))?;
        Ok(Self { session: Mutex::new(session), private, public })
    }
}

impl Signer for TokenSigner {
    fn public(&self) -> PublicIdentity {
        self.public.clone()
    }

    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.sign(&mechanism, self.private, message).map_err(SignError::new)
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("public", &self.public).finish_non_exhaustive()
    }
}

fn label(text: &str) -> Attribute {
    Attribute::Label(text.as_bytes().to_vec())
}

/// A session with the token, logged in as its user.
fn log_in(place: &TokenKey, pin: String, writes: bool) -> Result<Session, TokenError> {
    let pin = AuthPin::from(pin);
    let module = |source| TokenError::Module { path: place.module.clone(), source };
    let context = Pkcs11::new(&place.module).map_err(module)?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Other code of this process may use the module as well; so it is not finalized either.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(module(error)),
    }
    let slot = find_token(&context, &place.token)?;
    let session =
        if writes { context.open_rw_session(slot)? } else { context.open_ro_session(slot)? };
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(error) => Err(TokenError::Pin(error)),
    }
}

fn find_token(context: &Pkcs11, wanted: &str) -> Result<Slot, TokenError> {
    let mut found = Vec::new();
    let mut matching = Vec::new();
    for slot in context.get_slots_with_initialized_token()? {
        let info = context.get_token_info(slot)?;
        found.push(info.label().to_owned());
        if info.label() == wanted {
            matching.push(slot);
        }
    }
    match matching.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(TokenError::NoToken { wanted: wanted.to_owned(), found }),
        _ => Err(TokenError::SeveralTokens(wanted.to_owned())),
    }
}

fn one_key(session: &Session, class: ObjectClass, name: &str) -> Result<ObjectHandle, TokenError> {
    let template = [Attribute::Class(class), Attribute::KeyType(KeyType::EC_EDWARDS), label(name)];
    match session.find_objects(&template)?.as_slice() {
        [key] => Ok(*key),
        [] => Err(TokenError::NoKey(name.to_owned())),
        _ => Err(TokenError::SeveralKeys(name.to_owned())),
    }
}

/// `None` when the key is of another curve.
fn read_public(
    session: &Session,
    half: ObjectHandle,
) -> Result<Option<PublicIdentity>, TokenError> {
    let mut key = None;
    let mut is_right_curve = false;
    for attribute in
        session.get_attributes(half, &[AttributeType::EcParams, AttributeType::EcPoint])?
    {
        match attribute {
            Attribute::EcParams(params) => is_right_curve = is_ed25519(&params),
            Attribute::EcPoint(point) => key = public_key(&point),
            _ => {}
        }
    }
    Ok(key.filter(|_| is_right_curve).map(PublicIdentity::ed25519))
}

/// `(public half, private half)`.
fn generate_pair(
    session: &Session,
    name: &str,
    curve: &[u8],
) -> Result<(ObjectHandle, ObjectHandle), Error> {
    let id = Attribute::Id(name.as_bytes().to_vec());
    let public = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::EcParams(curve.to_vec()),
        label(name),
        id.clone(),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        label(name),
        id,
    ];
    session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private)
}
