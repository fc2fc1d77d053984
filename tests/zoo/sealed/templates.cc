// Templates that keep a compiler busy for a while.
#include <cstdio>
#include <tuple>
#include <utility>

template <int N, int M>
struct Paths {
  static constexpr long value = (Paths<N - 1, M>::value + Paths<N, M - 1>::value) % 1000003;
  using type = std::tuple<std::integral_constant<long, value>, typename Paths<N - 1, M>::first, typename Paths<N, M - 1>::first>;
  using first = std::tuple_element_t<0, type>;
};
template <int M>
struct Paths<0, M> {
  static constexpr long value = M + 1;
  using first = std::integral_constant<long, 1>;
};
template <int N>
struct Paths<N, 0> {
  static constexpr long value = N + 1;
  using first = std::integral_constant<long, 1>;
};
template <>
struct Paths<0, 0> {
  static constexpr long value = 1;
  using first = std::integral_constant<long, 1>;
};

int main() { std::printf("%ld\n", Paths<SIZE, SIZE>::value); }
