package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"
)

// ErrPassphrase says that the keyring needs a passphrase, or another one.
var ErrPassphrase = errors.New("the passphrase does not open this keyring")

// The cost of a passphrase: RFC 9106 section 4, second recommended option.
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
	saltSize     = 16
	sealedMagic  = "waxseal keyring file v1\n"
	checkName    = "passphrase check"
)

// stretching is how a passphrase becomes a key; it is kept in the settings.
type stretching struct {
	Salt    []byte `json:"salt"`
	Time    uint32 `json:"time"`
	Memory  uint32 `json:"memory"`
	Threads uint8  `json:"threads"`
	// Check is a known text under the key: a wrong passphrase is told apart from a damaged file.
	Check []byte `json:"check"`
}

// lockbox encrypts private files; without a passphrase it lets them through.
type lockbox struct{ aead cipher.AEAD }

// newLockbox sets a passphrase up.
func newLockbox(rand io.Reader, passphrase []byte) (lockbox, *stretching, error) {
	if len(passphrase) == 0 {
		return lockbox{}, nil, nil
	}
	s := &stretching{Salt: make([]byte, saltSize), Time: argonTime, Memory: argonMemory, Threads: argonThreads}
	if _, err := io.ReadFull(rand, s.Salt); err != nil {
		return lockbox{}, nil, fmt.Errorf("reading randomness: %w", err)
	}
	box, err := s.stretch(passphrase)
	if err != nil {
		return lockbox{}, nil, err
	}
	s.Check, err = box.seal(rand, checkName, []byte(checkName))
	return box, s, err
}

// openLockbox checks the passphrase against the settings.
func openLockbox(s *stretching, passphrase []byte) (lockbox, error) {
	switch {
	case s == nil && len(passphrase) == 0:
		return lockbox{}, nil
	case s == nil:
		return lockbox{}, errors.New("a passphrase was given, but this keyring was made without one")
	case len(passphrase) == 0:
		return lockbox{}, fmt.Errorf("%w: it was made with one; give --passphrase-file", ErrPassphrase)
	}
	box, err := s.stretch(passphrase)
	if err != nil {
		return lockbox{}, err
	}
	if _, err := box.open(checkName, s.Check); err != nil {
		return lockbox{}, ErrPassphrase
	}
	return box, nil
}

func (s *stretching) stretch(passphrase []byte) (lockbox, error) {
	if s.Time < 1 || s.Time > 64 || s.Memory < 8<<10 || s.Memory > 4<<20 || s.Threads < 1 || len(s.Salt) < saltSize {
		return lockbox{}, fmt.Errorf("%s: the passphrase settings are out of bounds", fileSettings)
	}
	key := argon2.IDKey(passphrase, s.Salt, s.Time, s.Memory, s.Threads, 32)
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return lockbox{}, err
	}
	aead, err := cipher.NewGCM(block)
	return lockbox{aead: aead}, err
}

// seal binds the file's name, so that two private files cannot be swapped.
func (b lockbox) seal(rand io.Reader, name string, data []byte) ([]byte, error) {
	if b.aead == nil {
		return data, nil
	}
	nonce := make([]byte, b.aead.NonceSize())
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("reading randomness: %w", err)
	}
	out := append([]byte(sealedMagic), nonce...)
	return b.aead.Seal(out, nonce, data, []byte(sealedMagic+name)), nil
}

func (b lockbox) open(name string, data []byte) ([]byte, error) {
	if b.aead == nil {
		return data, nil
	}
	head := len(sealedMagic) + b.aead.NonceSize()
	if len(data) < head || string(data[:len(sealedMagic)]) != sealedMagic {
		return nil, fmt.Errorf("reading the keyring: %s is not encrypted, but the keyring has a passphrase", name)
	}
	plain, err := b.aead.Open(nil, data[len(sealedMagic):head], data[head:], []byte(sealedMagic+name))
	if err != nil {
		return nil, fmt.Errorf("reading the keyring: %s was altered", name)
	}
	return plain, nil
}
