package tenantserver

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// scramVerifier returns what PostgreSQL stores for a password, so that the password itself is never
// sent and cannot turn up in the server's log (RFC 5802; the form is that of pg_authid.rolpassword).
// Rounds slow down both guessing and connecting, and nobody can guess a password of 256 random bits.
// PostgreSQL accepts any number from 1 up (scram_iterations in its documentation).
func scramVerifier(password string) (string, error) {
	const rounds = 1
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	storedKey := sha256.Sum256(sign(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, encode(salt), encode(storedKey[:]), encode(sign(salted, "Server Key"))), nil
}

func sign(key []byte, message string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}
