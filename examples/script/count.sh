# Any command will do: this one gives every fourth text (or what the number of chunks is) to words.py.
set -eu
number=0
for text in texts/*.txt; do
    if [ $((number % SHOAL_CHUNKS)) -eq "$SHOAL_CHUNK" ]; then
        echo "reading $text"
        python words.py "$text" > "$SHOAL_OUT/$(basename "$text" .txt).json"
    fi
    number=$((number + 1))
done
