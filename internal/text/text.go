// Package text holds the rules for texts that people type: their length and their characters.
package text

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Check returns what is wrong with a text that must have least to most characters, or "".
func Check(text string, least, most int) string {
	switch n := utf8.RuneCountInString(text); {
	case strings.ContainsFunc(text, unwanted):
		return "must not contain control characters"
	case n < least && least == 1:
		return "must not be empty"
	case n < least || n > most:
		return fmt.Sprintf("must have %d to %d characters", least, most)
	}
	return ""
}

// CheckName is like Check, for a text that people read. It also refuses characters that are invisible or reverse the
// direction of what follows: with them, one name could pass for another.
func CheckName(name string, least, most int) string {
	if problem := Check(name, least, most); problem != "" {
		return problem
	}
	if strings.ContainsFunc(name, invisible) {
		return "must not contain invisible characters"
	}
	if !strings.ContainsFunc(name, visible) {
		return "must contain a letter, a digit or a sign"
	}
	return ""
}

// The joiners are invisible, but some scripts need them.
const zeroWidthNonJoiner, zeroWidthJoiner = '\u200c', '\u200d'

func invisible(r rune) bool {
	switch {
	case r == zeroWidthNonJoiner, r == zeroWidthJoiner:
		return false
	case unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point, unicode.Co):
		return true
	}
	return strings.ContainsRune("\u115f\u1160\u2800\u3164\uffa0", r) // letters and signs that look like spaces
}

func visible(r rune) bool { return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) }

// unwanted reports control characters, including NUL, and U+FFFD, which JSON decoding substitutes for invalid input
// such as a lone surrogate.
func unwanted(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }
