package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const foldEvery = time.Minute

// Folding folds repeated warnings and errors. It logs the first line of a kind at once. Then it logs one line a minute: the
// latest, with the number of lines as "repeated". Lines are of the same kind if they have the same text and cause. A line
// without an error is never folded.
type Folding struct {
	slog.Handler
	folds *folds
}

type folds struct {
	mu   sync.Mutex
	open map[string]*fold
}

// fold is a kind of lines that was logged within the last minute.
type fold struct {
	handler  slog.Handler
	latest   slog.Record
	repeated int
	timer    *time.Timer
}

// NewFolding returns a Folding in front of a handler.
func NewFolding(to slog.Handler) Folding { return Folding{to, &folds{open: map[string]*fold{}}} }

// Handle logs a record, or counts it.
func (f Folding) Handle(ctx context.Context, record slog.Record) error {
	cause, ok := causeOf(record)
	if !ok || record.Level < slog.LevelWarn {
		return f.Handler.Handle(ctx, record)
	}
	kind := record.Level.String() + " " + record.Message + ": " + cause
	f.folds.mu.Lock()
	if known := f.folds.open[kind]; known != nil {
		known.handler, known.latest, known.repeated = f.Handler, record.Clone(), known.repeated+1
		f.folds.mu.Unlock()
		return nil
	}
	f.folds.open[kind] = &fold{timer: time.AfterFunc(foldEvery, func() { f.folds.report(kind) })}
	f.folds.mu.Unlock()
	return f.Handler.Handle(ctx, record)
}

// causeOf returns the innermost part of a record's error.
func causeOf(record slog.Record) (cause string, ok bool) {
	record.Attrs(func(a slog.Attr) bool {
		if !strings.EqualFold(a.Key, "error") {
			return true
		}
		cause, ok = a.Value.String(), true
		var failure interface{ Message() string } // an activity's failure
		if err, is := a.Value.Any().(error); is && errors.As(err, &failure) {
			cause = failure.Message()
		}
		return false
	})
	return cause[strings.LastIndex(cause, ": ")+1:], ok
}

// report logs how often a line of a kind came within the last minute, and forgets the kind if none did.
func (f *folds) report(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.open[kind]
	switch {
	case known == nil:
	case known.repeated == 0:
		delete(f.open, kind)
	default:
		known.write()
		known.timer.Reset(foldEvery)
	}
}

func (f *fold) write() {
	if f.repeated > 0 {
		f.latest.AddAttrs(slog.Int("repeated", f.repeated))
		_ = f.handler.Handle(context.Background(), f.latest) // if the log can't be written, there is nowhere to report it
		f.repeated = 0
	}
}

// Flush logs what has been counted but not logged yet.
func (f Folding) Flush() {
	f.folds.mu.Lock()
	defer f.folds.mu.Unlock()
	for kind, known := range f.folds.open {
		known.timer.Stop()
		known.write()
		delete(f.folds.open, kind)
	}
}

// WithAttrs returns a handler that shares f's counts.
func (f Folding) WithAttrs(attrs []slog.Attr) slog.Handler {
	return Folding{f.Handler.WithAttrs(attrs), f.folds}
}

// WithGroup is like WithAttrs.
func (f Folding) WithGroup(name string) slog.Handler {
	return Folding{f.Handler.WithGroup(name), f.folds}
}
