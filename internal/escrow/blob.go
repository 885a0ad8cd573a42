package escrow

import (
	"encoding/json"
	"fmt"
)

// MaxBlobSize bounds what SealBlob seals.
const MaxBlobSize = 256 << 10

const blobInfo = "waxseal sealed blob v1"

// sealedBlob is one message sealed to one member.
type sealedBlob struct {
	Version    int    `json:"version"`
	Purpose    string `json:"purpose"`
	Member     string `json:"member"`
	Suite      Suite  `json:"suite"`
	Enc        []byte `json:"enc"`
	Ciphertext []byte `json:"ciphertext"`
}

// SealBlob seals bytes to one member for one purpose, such as the CA keys that approve hands to a further connector.
// It proves nothing about who sealed: the bytes must carry their own proof.
func SealBlob(purpose string, plaintext []byte, to Member) ([]byte, error) {
	if len(plaintext) > MaxBlobSize {
		return nil, fmt.Errorf("sealing %s: longer than %d bytes", purpose, MaxBlobSize)
	}
	if err := to.Check(); err != nil {
		return nil, fmt.Errorf("sealing %s to %q: %w", purpose, clip(to.Name), err)
	}
	b := sealedBlob{Version: 1, Purpose: purpose, Member: to.ID, Suite: to.Suite}
	var err error
	if b.Enc, b.Ciphertext, err = sealTo(to, blobInfo, b.aad(), plaintext); err != nil {
		return nil, fmt.Errorf("sealing %s to %q: %w", purpose, clip(to.Name), err)
	}
	return json.Marshal(b)
}

// OpenBlob opens what SealBlob sealed to this key for this purpose.
func OpenBlob(purpose string, sealed []byte, key PrivateKey) ([]byte, error) {
	if len(sealed) > 2*MaxBlobSize {
		return nil, fmt.Errorf("opening %s: longer than %d bytes", purpose, 2*MaxBlobSize)
	}
	var b sealedBlob
	if err := decodeStrict(sealed, &b); err != nil {
		return nil, fmt.Errorf("opening %s: %w", purpose, err)
	}
	if key.IsZero() || b.Member != key.ID() || b.Suite != key.suite {
		return nil, fmt.Errorf("opening %s: %w", purpose, ErrNotRecipient)
	}
	if b.Version != 1 || b.Purpose != purpose {
		return nil, fmt.Errorf("opening %s: sealed for %q, version %d", purpose, clip(b.Purpose), b.Version)
	}
	plaintext, err := openWith(key, blobInfo, b.Enc, b.aad(), b.Ciphertext)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", purpose, err)
	}
	return plaintext, nil
}

func (b sealedBlob) aad() []byte {
	return []byte(blobInfo + "\n" + b.Purpose + "\n" + b.Member + "\n" + string(b.Suite))
}
