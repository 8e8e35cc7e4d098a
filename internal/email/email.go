// Package email holds the rules of email addresses: their normal form and their syntax.
package email

import (
	"strings"

	"github.com/go-playground/validator/v10"
	"golang.org/x/text/unicode/norm"

	"narthex/internal/text"
)

const maxLength = 254 // characters; SMTP allows no longer path

var syntax = validator.New()

// Normalise returns the form in which an address is stored and compared: trimmed, in lower case, and with letters
// and accents composed (NFC).
func Normalise(email string) string {
	return norm.NFC.String(strings.ToLower(strings.TrimSpace(email)))
}

// Check returns what is wrong with a normalised address, or "".
func Check(email string) string {
	if problem := text.CheckName(email, 1, maxLength); problem != "" {
		return problem
	}
	if syntax.Var(email, "email") != nil {
		return "is not an email address"
	}
	return ""
}
