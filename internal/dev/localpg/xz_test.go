package localpg_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// storedXZ wraps content in an xz stream without compressing it: one block of LZMA2 chunks that are
// stored as they are, no check. The format: https://tukaani.org/xz/xz-file-format.txt
func storedXZ(content []byte) []byte {
	flags := []byte{0, 0}
	header := summed([]byte{2 /* in fours, less one */, 0, 0x21 /* LZMA2 */, 1, 0x16 /* 8 MiB */, 0, 0, 0})

	var chunks bytes.Buffer
	control := byte(1) // stored, and the dictionary is reset
	for chunk := range slices.Chunk(content, 1<<16) {
		chunks.WriteByte(control)
		chunks.Write(binary.BigEndian.AppendUint16(nil, uint16(len(chunk)-1)))
		chunks.Write(chunk)
		control = 2 // stored
	}
	chunks.WriteByte(0)

	index := []byte{0, 1}
	index = binary.AppendUvarint(index, uint64(len(header)+chunks.Len()))
	index = binary.AppendUvarint(index, uint64(len(content)))
	index = summed(padded(index))
	end := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), flags...)

	return slices.Concat(
		[]byte("\xfd7zXZ\x00"), summed(flags),
		header, padded(chunks.Bytes()), index,
		binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(end)), end, []byte("YZ"),
	)
}

func summed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(slices.Clone(b), crc32.ChecksumIEEE(b))
}

func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
