package companion

// The codes of android.md section 8.7, and csr_refused. Meaning and Retry tell of each.
const (
	ErrDelegationMissing          ErrorCode = "delegation_missing"
	ErrSelectionDelegationMissing ErrorCode = "selection_delegation_missing"
	ErrScreenLockRequired         ErrorCode = "screen_lock_required"
	ErrUserLocked                 ErrorCode = "user_locked"
	ErrDecryptFailed              ErrorCode = "decrypt_failed"
	ErrPayloadExpired             ErrorCode = "payload_expired"
	ErrRevisionStale              ErrorCode = "revision_stale"
	ErrPKCS12MACInvalid           ErrorCode = "pkcs12_mac_invalid"
	ErrPKCS12AlgUnsupported       ErrorCode = "pkcs12_alg_unsupported"
	ErrKeyAlgUnsupported          ErrorCode = "key_alg_unsupported"
	ErrKeyCertMismatch            ErrorCode = "key_cert_mismatch"
	ErrKeychainRefused            ErrorCode = "keychain_refused"
	ErrAliasConflict              ErrorCode = "alias_conflict"
	ErrAppNotInstalled            ErrorCode = "app_not_installed"
	ErrAppSignatureMismatch       ErrorCode = "app_signature_mismatch"
	ErrCARefused                  ErrorCode = "ca_refused"
	ErrStorageFull                ErrorCode = "storage_full"
	ErrNetwork                    ErrorCode = "network"
	ErrTLSPin                     ErrorCode = "tls_pin"
	ErrServer5xx                  ErrorCode = "server_5xx"
	ErrClockSkew                  ErrorCode = "clock_skew"
	ErrUnsupportedAPI             ErrorCode = "unsupported_api"
	ErrCSRRefused                 ErrorCode = "csr_refused"
)

// Retry is what helps against a fault.
type Retry string

// What helps.
const (
	RetryNever   Retry = "never"    // until there is another revision
	RetryWait    Retry = "wait"     // something outside must change; the app notices by itself
	RetryUser    Retry = "user"     // the user must do something
	RetryRefetch Retry = "refetch"  // fetch the envelope again, once
	RetryReread  Retry = "reread"   // read the state again
	RetryEncode  Retry = "reencode" // the server must write it in another way
	RetryThrice  Retry = "thrice"   // three tries
	RetryBackoff Retry = "backoff"  // 30 s, 2 min, 10 min, 1 h, then every 6 h
)

// fault is what is known of a code.
type fault struct {
	retry   Retry
	meaning string
}

// faults is the table of android.md section 8.7, and what the request for a certificate adds to it.
func faults() map[ErrorCode]fault {
	return map[ErrorCode]fault{
		ErrDelegationMissing:          {RetryWait, "the companion app may not install certificates: the delegated scope CERT_INSTALL is missing"},
		ErrSelectionDelegationMissing: {RetryWait, "the companion app may not give keys to apps: the delegated scope CERT_SELECTION is missing"},
		ErrScreenLockRequired:         {RetryUser, "the device has no screen lock, and its key store wants one; its user must set one"},
		ErrUserLocked:                 {RetryWait, "the device was restarted and has not been unlocked since"},
		ErrDecryptFailed:              {RetryRefetch, "the envelope does not open: it is for another wrap key, or damaged"},
		ErrPayloadExpired:             {RetryReread, "the envelope was kept too long"},
		ErrRevisionStale:              {RetryReread, "the item has another revision by now"},
		ErrPKCS12MACInvalid:           {RetryNever, "the password does not fit the PKCS#12"},
		ErrPKCS12AlgUnsupported:       {RetryEncode, "this version of Android does not know the encryption of the PKCS#12"},
		ErrKeyAlgUnsupported:          {RetryNever, "the key chain takes RSA and ECDSA keys only"},
		ErrKeyCertMismatch:            {RetryNever, "the private key is not that of the certificate"},
		ErrKeychainRefused:            {RetryThrice, "the key chain did not take the key and gave no reason"},
		ErrAliasConflict:              {RetryNever, "the alias belongs to another certificate; remove that one from the device"},
		ErrAppNotInstalled:            {RetryWait, "the mail app is not installed"},
		ErrAppSignatureMismatch:       {RetryNever, "the mail app is signed by somebody else than expected"},
		ErrCARefused:                  {RetryThrice, "the trust store did not take the CA certificate and gave no reason"},
		ErrStorageFull:                {RetryBackoff, "the device has no storage left"},
		ErrNetwork:                    {RetryBackoff, "the server could not be reached"},
		ErrTLSPin:                     {RetryBackoff, "the server's TLS certificate is not the one that the app expects; something may listen in between"},
		ErrServer5xx:                  {RetryBackoff, "the server failed and could not answer"},
		ErrClockSkew:                  {RetryWait, "by the device's clock the certificate is not valid yet; set the clock"},
		ErrUnsupportedAPI:             {RetryNever, "this version of Android lacks the call"},
		ErrCSRRefused:                 {RetryNever, "there is no certificate for the key that the device made"},
	}
}

// Retry says what helps; a code of a newer app gets RetryBackoff, for its own word Retryable counts.
func (c ErrorCode) Retry() Retry {
	if f, ok := faults()[c]; ok {
		return f.retry
	}
	return RetryBackoff
}

// Meaning is a sentence for people.
func (c ErrorCode) Meaning() string {
	if f, ok := faults()[c]; ok {
		return f.meaning
	}
	return "the app reports " + clip(string(c))
}
