package activities

// ChangeNext is changeNext, for tests that can't wait until a slice ends.
var ChangeNext = (*Activities).changeNext
