package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable escapes what a terminal may take for a command, and line breaks. Text from a church's database needs that:
// the church has chosen the names in it.
func printable(text string) string {
	var escaped strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			escaped.WriteRune(r)
			continue
		}
		escaped.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
	}
	return escaped.String()
}

var controls = regexp.MustCompile(`[\x{7f}-\x{9f}]`)

// escapeControls escapes the control characters that encoding/json leaves as they are.
func escapeControls(encoded []byte) []byte {
	return controls.ReplaceAllFunc(encoded, func(control []byte) []byte {
		r, _ := utf8.DecodeRune(control)
		return fmt.Appendf(nil, `\u%04x`, r)
	})
}
